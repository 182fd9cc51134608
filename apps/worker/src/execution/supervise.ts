import { constants } from 'node:os'
import type { ContainerEngine, ContainerExit } from '../engine/engine.js'
import { sleep } from '../support/lifecycle.js'
import { type Adopted, type Bootstrap, TaskClock } from './bootstrap-watch.js'
import type { Limit } from './limit.js'
import { readMarks } from './marks.js'
import type { Exit, StopCause } from './running-container.js'

/** A cause that weighs more replaces one that weighs less: canceled, deadline, limit. */
const WEIGHT: Readonly<Record<StopCause, number>> = { canceled: 3, deadline: 2, idle: 2, limit: 1 }

/**
 * Watches one container until it has ended, ending it itself when the time is up or when told to. All times are
 * monotonic.
 */
export class Supervisor {
  readonly exit: Promise<Exit>
  readonly #engine: ContainerEngine
  readonly #id: string
  readonly #graceMs: number
  readonly #settle: () => Promise<void>
  readonly #ended = new AbortController()
  readonly #clock: TaskClock
  #stoppedDuring: Exit['during'] | null = null
  #cause: StopCause | null = null
  #limit: Limit | null = null
  #signal: 'SIGTERM' | 'SIGKILL' | null = null

  constructor(options: {
    engine: ContainerEngine
    id: string
    timeoutMs: number
    graceMs: number
    marksFolder: string
    /** Of a container that another worker started; null for one that starts now. */
    adopted?: Adopted | null
    /** What comes before the task's own time; null when nothing does. */
    bootstrap?: Bootstrap | null
    /** The bootstrap has ended, and the task's first command has begun. */
    onTask?: () => void
    /** Waits until what the ended container left is where the worker sees it. */
    settle?: () => Promise<void>
  }) {
    this.#engine = options.engine
    this.#id = options.id
    this.#graceMs = options.graceMs
    this.#settle = options.settle ?? (() => Promise.resolve())
    const { bootstrap = null, onTask = () => undefined, timeoutMs, marksFolder, adopted = null } = options
    const onLate = () => this.stop('deadline')
    this.#clock = new TaskClock({ timeoutMs, bootstrap, marksFolder, onLate, onTask, adopted })
    this.exit = this.#watch(marksFolder)
    // Whoever waits for the exit sees its rejection; a worker must not die of one that nobody awaits any more.
    this.exit.catch(() => undefined)
  }

  /** @param limit which one, for that cause */
  stop(cause: StopCause, limit: Limit | null = null): void {
    if (this.#ended.signal.aborted) return
    this.#limit ??= limit
    const first = this.#cause === null
    if (first) this.#stoppedDuring = this.#clock.during
    if (first || WEIGHT[cause] > WEIGHT[this.#cause as StopCause]) this.#cause = cause
    if (first) void this.#terminate()
  }

  async #watch(marksFolder: string): Promise<Exit> {
    try {
      const never = new AbortController()
      const ended = await this.#engine.exit(this.#id, never.signal)
      const late = this.#clock.wasLate(Date.parse(ended.finishedAt))
      // From here on nothing is sent to the container, nor does anything change why it ended.
      this.#ended.abort()
      await this.#settle()
      const during = await this.#clock.stop()
      return await this.#toExit(ended, marksFolder, { late, during: this.#stoppedDuring ?? during })
    } finally {
      this.#ended.abort()
      await this.#clock.stop()
    }
  }

  async #toExit(
    ended: ContainerExit,
    marksFolder: string,
    { late, during }: { late: boolean; during: Exit['during'] },
  ): Promise<Exit> {
    const marks = await readMarks(marksFolder)
    const cause = this.#cause ?? (late ? 'deadline' : ended.lost ? 'lost' : 'exited')
    const code = ended.lost ? null : ended.exitCode
    const others = this.#signal === null ? await this.#signalOfOthers(code) : null
    return {
      code,
      signal: this.#signal ?? others,
      killedByOthers: others !== null,
      oomKilled: ended.oomKilled,
      pidsExceeded: false,
      cause,
      limit: this.#limit,
      during,
      marks,
    }
  }

  /** A status above 128 may stand for a signal; who sent it is asked, not guessed. */
  async #signalOfOthers(code: number | null): Promise<string | null> {
    if (code === null || code <= 128 || code > 128 + 64) return null
    const signals = await this.#engine.signalsTo(this.#id).catch(() => [])
    return signals.find(signal => constants.signals[signal as NodeJS.Signals] === code - 128) ?? null
  }

  async #terminate(): Promise<void> {
    try {
      // Who floods the disk gets no time to go on with it.
      if (this.#graceMs > 0 && this.#cause !== 'limit') {
        await this.#send('SIGTERM')
        await sleep(this.#graceMs, this.#ended.signal)
      }
    } catch {
      if (this.#ended.signal.aborted) return
    }
    await this.#killUntilEnded()
  }

  /** An engine that is away for a moment must not let a task outlive its deadline. */
  async #killUntilEnded(): Promise<void> {
    while (!this.#ended.signal.aborted) {
      await this.#send('SIGKILL').catch(() => undefined)
      await sleep(1000, this.#ended.signal).catch(() => undefined)
    }
  }

  async #send(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#signal = signal
    await this.#engine.kill(this.#id, signal)
  }
}
