import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine, OutputRun } from '../engine/engine.js'
import { sleep } from '../support/lifecycle.js'
import { StepBorders } from './step-borders.js'

export interface AttachedLogOptions {
  readonly engine: ContainerEngine
  /** The container's id; it is created and not yet started. */
  readonly id: string
  /** The slot's log folder, with the files `o`, `e` and `s`. */
  readonly folder: string
  /** What the gate prints where a step begins. */
  readonly border: string
}

type StreamName = OutputRun['stream']

/** A connection that ended while the container goes on is noticed after so long, in milliseconds. */
const EXIT_MS = 1000
const RETRY_MS = 500
/** After the exit, output that stays away for so long does not come any more. */
const QUIET_MS = 10_000
const LOST = 'agirunner: the connection to the container engine broke; output is missing here\n'

/**
 * Writes what a container prints to the files that a gate would write, for engines that share none. The files are the
 * buffer: output is taken from the engine as fast as it comes, however slow Redis is, because an unread stream would
 * stall the container.
 */
export class AttachedLog {
  readonly #options: AttachedLogOptions
  readonly #files: Readonly<Record<StreamName | 'marks', FileHandle>>
  readonly #borders: Readonly<Record<StreamName, StepBorders>>
  readonly #written = { stdout: 0, stderr: 0 }
  readonly #stop = new AbortController()
  readonly #exited = new AbortController()
  readonly #done: Promise<void>
  #moved = false
  #failure: Error | null = null

  /** @throws TaskFailure `container.start_failed`, `engine.unavailable` */
  static async open(options: AttachedLogOptions): Promise<AttachedLog> {
    const append = (name: string) => open(join(options.folder, name), 'a')
    const [stdout, stderr, marks] = await Promise.all([append('o'), append('e'), append('s')])
    return await AttachedLog.#attach(options, { stdout, stderr, marks })
  }

  static async #attach(
    options: AttachedLogOptions,
    files: Readonly<Record<StreamName | 'marks', FileHandle>>,
  ): Promise<AttachedLog> {
    const stop = new AbortController()
    try {
      const runs = await options.engine.attach(options.id, stop.signal)
      return new AttachedLog(options, files, stop, runs)
    } catch (error) {
      await closeAll(files)
      throw error
    }
  }

  private constructor(
    options: AttachedLogOptions,
    files: Readonly<Record<StreamName | 'marks', FileHandle>>,
    stop: AbortController,
    runs: AsyncIterable<OutputRun>,
  ) {
    this.#options = options
    this.#files = files
    this.#stop = stop
    this.#borders = { stdout: new StepBorders(options.border), stderr: new StepBorders(options.border) }
    this.#done = this.#follow(runs)
  }

  /**
   * Takes the rest, once the container has ended.
   *
   * @throws TaskFailure `capture.failed` when the output could not be written
   */
  async finish(): Promise<void> {
    this.#exited.abort()
    const quiet = setInterval(() => {
      if (!this.#moved) this.#stop.abort(new Error('no more output came'))
      this.#moved = false
    }, QUIET_MS)
    await this.#done
    clearInterval(quiet)
    if (this.#stop.signal.aborted) await this.#noteLoss()
    for (const stream of ['stdout', 'stderr'] as const) await this.#take(stream, null)
    await closeAll(this.#files)
    if (this.#failure === null) return
    throw new TaskFailure('capture.failed', `the log can't be kept; ${this.#failure.message}`, {
      phase: 'capture',
      cause: this.#failure,
    })
  }

  /** Stops at once; repeatable, also after the end. */
  async abandon(): Promise<void> {
    this.#stop.abort(new Error('the log is abandoned'))
    await this.#done
    await closeAll(this.#files)
  }

  /** Follows the output to its end, over as many connections as it takes. */
  async #follow(first: AsyncIterable<OutputRun>): Promise<void> {
    for (let runs: AsyncIterable<OutputRun> | null = first; runs; ) {
      await this.#drain(runs)
      runs = (await this.#isOver()) ? null : await this.#again()
    }
  }

  /** Reads one connection to its end, whatever ends it. */
  async #drain(runs: AsyncIterable<OutputRun>): Promise<void> {
    try {
      for await (const { stream, bytes } of runs) {
        this.#moved = true
        await this.#take(stream, bytes)
        if (this.#stop.signal.aborted) return
      }
    } catch {
      // Whether the container ended with its connection is asked next.
    }
  }

  /** The end of a container closes its streams a moment before the engine tells its exit. */
  async #isOver(): Promise<boolean> {
    if (this.#stop.signal.aborted || this.#exited.signal.aborted) return true
    const ended = AbortSignal.any([this.#stop.signal, this.#exited.signal])
    return await sleep(EXIT_MS, ended).then(
      () => false,
      () => true,
    )
  }

  async #again(): Promise<AsyncIterable<OutputRun> | null> {
    await this.#noteLoss()
    const { engine, id } = this.#options
    while (!(this.#stop.signal.aborted || this.#exited.signal.aborted)) {
      try {
        return await engine.attach(id, this.#stop.signal)
      } catch {
        await sleep(RETRY_MS, AbortSignal.any([this.#stop.signal, this.#exited.signal])).catch(
          () => undefined,
        )
      }
    }
    return null
  }

  /** Output that was lost is never passed over in silence. */
  async #noteLoss(): Promise<void> {
    for (const stream of ['stdout', 'stderr'] as const) await this.#take(stream, null)
    await this.#append('marks', Buffer.from('l\n'))
    await this.#append('stderr', Buffer.from(LOST))
  }

  /** Null ends what a stream holds back. */
  async #take(stream: StreamName, bytes: Buffer | null): Promise<void> {
    const borders = this.#borders[stream]
    for (const piece of bytes === null ? borders.flush() : borders.push(bytes)) {
      if ('bytes' in piece) await this.#append(stream, piece.bytes)
      // Before any byte of the step, so that whoever reads that byte finds the mark.
      else await this.#append('marks', Buffer.from(borderMark(stream, piece.step, this.#written[stream])))
    }
  }

  /** A disk that takes no more ends the following, not the container: what is unread then is the engine's to drop. */
  async #append(to: StreamName | 'marks', bytes: Buffer): Promise<void> {
    if (this.#failure !== null) return
    try {
      await this.#files[to].appendFile(bytes)
      if (to !== 'marks') this.#written[to] += bytes.length
    } catch (error) {
      this.#failure = error as Error
      this.#stop.abort(error)
    }
  }
}

function borderMark(stream: StreamName, step: number, offset: number): string {
  return `${stream === 'stdout' ? 'o' : 'e'} ${step} ${offset}\n`
}

async function closeAll(files: Readonly<Record<string, FileHandle>>): Promise<void> {
  await Promise.all(Object.values(files).map(file => file.close().catch(() => undefined)))
}
