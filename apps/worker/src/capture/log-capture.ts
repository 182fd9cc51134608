import { type FileHandle, open } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import type { LogSummary } from '@agirunner/contracts'
import { readMarks } from '../execution/marks.js'
import { incompleteTail, type LogStream } from './log-stream.js'
import { type LogChunk, LogTail, type StreamName } from './log-tail.js'

export interface LogCaptureOptions {
  /** The slot's log folder. */
  readonly folder: string
  /** Where the full log is written, both streams in the order of arrival. */
  readonly file: string
  readonly stream: LogStream
  /** Names of what the gate runs, by the index of its marks; empty when it has but one command. */
  readonly steps: readonly (string | null)[]
  /** After so many bytes the log is cut; the task goes on. */
  readonly limitBytes: number
  /** Beyond so many bytes the task is to be killed. */
  readonly ceilingBytes: number
  readonly onTruncated: (bytes: number) => void
  readonly onCeiling: () => void
}

interface StreamState {
  /** The first bytes of a character whose rest has not come yet. */
  carry: Buffer
  bytes: number
  newlines: number
  lastByte: number
}

/** Takes one attempt's log from its files to Redis and to a file, counts it, and keeps it within its limits. */
export class LogCapture {
  readonly #options: LogCaptureOptions
  readonly #file: FileHandle
  readonly #states: Record<StreamName, StreamState> = { stdout: newState(), stderr: newState() }
  #tail: LogTail | null = null
  #kept = 0
  #truncated = false
  #overCeiling = false

  static async open(options: LogCaptureOptions): Promise<LogCapture> {
    const capture = new LogCapture(options, await open(options.file, 'wx', 0o600))
    capture.#tail = await LogTail.open(options.folder, chunk => capture.#take(chunk))
    return capture
  }

  private constructor(options: LogCaptureOptions, file: FileHandle) {
    this.#options = options
    this.#file = file
  }

  get overCeiling(): boolean {
    return this.#overCeiling
  }

  /** Reads to the end of what the ended container wrote. */
  async finish(): Promise<LogSummary> {
    await this.#tail?.finish()
    for (const stream of ['stdout', 'stderr'] as const) await this.#flushCarry(stream)
    await this.#options.stream.flush()
    await this.#file.sync()
    await this.#file.close()
    const { lost } = await readMarks(this.#options.folder)
    const states = Object.values(this.#states)
    return {
      bytes: states.reduce((sum, state) => sum + state.bytes, 0),
      lines: states.reduce(
        (sum, { bytes, newlines, lastByte }) => sum + newlines + (bytes > 0 && lastByte !== 10 ? 1 : 0),
        0,
      ),
      truncated: this.#truncated || lost,
      uri: pathToFileURL(this.#options.file).href,
    }
  }

  /** Stops at once, for an attempt that will not be reported. */
  async abandon(): Promise<void> {
    await this.#tail?.abandon()
    await this.#file.close().catch(() => undefined)
  }

  async #take(chunk: LogChunk): Promise<void> {
    this.#count(chunk)
    const room = Math.max(0, this.#options.limitBytes - this.#kept)
    if (chunk.bytes.length > room && !this.#truncated) {
      this.#truncated = true
      this.#options.onTruncated(this.#options.limitBytes)
    }
    const kept = chunk.bytes.subarray(0, room)
    if (kept.length === 0) return
    this.#kept += kept.length
    await this.#file.write(kept)
    for (const part of await this.#bySteps({ ...chunk, bytes: kept })) await this.#emit(part)
  }

  #count({ stream, bytes }: LogChunk): void {
    const state = this.#states[stream]
    state.bytes += bytes.length
    state.lastByte = bytes[bytes.length - 1] ?? state.lastByte
    for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, at + 1)) state.newlines += 1
    if (
      this.#overCeiling ||
      this.#states.stdout.bytes + this.#states.stderr.bytes <= this.#options.ceilingBytes
    )
      return
    this.#overCeiling = true
    this.#options.onCeiling()
  }

  /**
   * Cuts a chunk where a step began. The marks are read after the bytes: a step's mark is written before its first
   * byte, so every byte that was read has its mark there already.
   */
  async #bySteps(chunk: LogChunk): Promise<(LogChunk & { step: string | null })[]> {
    const { steps } = this.#options
    if (steps.length === 0) return [{ ...chunk, step: null }]
    const marks = await readMarks(this.#options.folder)
    const starts = marks.steps.map(step => ({
      name: steps[step.index] ?? null,
      offset: chunk.stream === 'stdout' ? step.stdoutOffset : step.stderrOffset,
    }))
    const parts: (LogChunk & { step: string | null })[] = []
    let from = chunk.offset
    const end = chunk.offset + chunk.bytes.length
    while (from < end) {
      const current = starts.findLast(start => start.offset <= from)
      const next = starts.find(start => start.offset > from)?.offset ?? end
      const to = Math.min(end, next)
      const bytes = chunk.bytes.subarray(from - chunk.offset, to - chunk.offset)
      parts.push({ stream: chunk.stream, offset: from, bytes, step: current?.name ?? null })
      from = to
    }
    return parts
  }

  async #emit(part: LogChunk & { step: string | null }): Promise<void> {
    const state = this.#states[part.stream]
    const bytes = state.carry.length > 0 ? Buffer.concat([state.carry, part.bytes]) : part.bytes
    const offset = part.offset - state.carry.length
    const cut = bytes.length - incompleteTail(bytes)
    state.carry = Buffer.from(bytes.subarray(cut))
    if (cut > 0)
      await this.#options.stream.write({
        stream: part.stream,
        step: part.step,
        offset,
        bytes: bytes.subarray(0, cut),
      })
  }

  async #flushCarry(stream: StreamName): Promise<void> {
    const state = this.#states[stream]
    if (state.carry.length === 0 || this.#truncated) return
    const offset = state.bytes - state.carry.length
    await this.#options.stream.write({ stream, step: null, offset, bytes: state.carry })
    state.carry = Buffer.alloc(0)
  }
}

function newState(): StreamState {
  return { carry: Buffer.alloc(0), bytes: 0, newlines: 0, lastByte: 10 }
}
