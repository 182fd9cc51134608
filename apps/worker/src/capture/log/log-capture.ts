import { setImmediate } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import type { LiveContainer, LogSummary } from '@agirunner/contracts'
import { type GateMarks, readMarks, sizeOfMarks } from '../../execution/marks.js'
import type { Redactor } from '../../support/redactor.js'
import { incompleteHead, newlinesIn } from './characters.js'
import { lastLineOf } from './last-line.js'
import { budgetOf, LastRanges, type LogBudget } from './log-budget.js'
import { LogFiles, type LogRange, STREAMS, type StreamName } from './log-files.js'
import { type LogPart, LogPipe, type StepStart } from './log-pipe.js'
import { LogStore } from './log-store.js'
import type { LogStream } from './log-stream.js'
import { type LogChunk, LogTail } from './log-tail.js'

export interface LogCaptureOptions {
  /** The slot's log folder. */
  readonly folder: string
  /** Where the full log is written, both streams in the order of arrival. */
  readonly file: string
  readonly stream: LogStream
  readonly redactor: Redactor
  /** Names of what the gate runs, by the index of its marks; empty when it has but one command. */
  readonly steps: readonly (string | null)[]
  /** Of more than so many bytes only the head and the tail are kept; the task goes on. */
  readonly limitBytes: number
  /** Beyond so many bytes the task is to be killed. */
  readonly ceilingBytes: number
  /** Whether another worker began with this log, in the same file and the same Redis stream. */
  readonly resume?: boolean
  readonly onTruncated: (bytes: number) => void
  readonly onCeiling: () => void
}

/** What is read at once where nobody waits. */
const PIECE_BYTES = 64 * 1024
/** After so long, in milliseconds, other tasks have their turn. */
const TURN_MS = 5
/** Room for the line that says how much was left out, and for masks that stand for less than they show. */
const MARKER_BYTES = 96

/** Where the last line is looked for. */
const LINE_BYTES = 4096

interface Counted {
  bytes: number
  newlines: number
  lastByte: number
}

/**
 * Takes one attempt's log from its files to Redis and to a file: secrets masked, counted, and kept within its limit.
 *
 * Up to the limit less a tail, everything is told as it comes. What comes after that stays in the files until the end,
 * which decides: either it is all told then, or only the last of it, behind a line that says how much is missing.
 */
export class LogCapture {
  readonly #options: LogCaptureOptions
  readonly #budget: LogBudget
  readonly #files: LogFiles
  readonly #store: LogStore
  readonly #pipes: Readonly<Record<StreamName, LogPipe>>
  readonly #counted: Record<StreamName, Counted> = { stdout: newCount(), stderr: newCount() }
  /** How far each stream was pushed into its pipe. */
  readonly #pushed: Record<StreamName, number>
  readonly #later: LastRanges
  #tail: LogTail | null = null
  readonly #steps: StepCache
  #lastShown = 10
  /** In Unix milliseconds. */
  #toldAt = Date.now()
  /** What `lastLine` found, and how long the file was then. */
  #lastLine: { readonly file: number; readonly told: LiveContainer['lastOutput'] } = { file: 0, told: null }
  #truncated = false
  /** Whether another worker has begun to tell the tail of a log that is cut. */
  #cutBefore = false
  #overCeiling = false

  /** @throws Error when there is no log to resume */
  static async open(options: LogCaptureOptions): Promise<LogCapture> {
    const files = await LogFiles.open(options.folder)
    try {
      const { file, stream, resume } = options
      const store = await (resume ? LogStore.resume(file, stream.seq) : LogStore.create(file, stream.seq))
      const capture = new LogCapture(options, files, store)
      await capture.#begin()
      return capture
    } catch (error) {
      await files.close()
      throw error
    }
  }

  private constructor(options: LogCaptureOptions, files: LogFiles, store: LogStore) {
    this.#options = options
    this.#files = files
    this.#store = store
    this.#budget = budgetOf(options.limitBytes)
    this.#later = new LastRanges(this.#budget.tail)
    this.#steps = new StepCache(options.folder, options.steps)
    const { stdout, stderr } = store.position
    this.#pushed = { stdout, stderr }
    this.#cutBefore = store.position.cut
    const pipe = (stream: StreamName, from: number) =>
      new LogPipe(stream, options.redactor, from, this.#contextOf(from))
    this.#pipes = { stdout: pipe('stdout', stdout), stderr: pipe('stderr', stderr) }
  }

  get overCeiling(): boolean {
    return this.#overCeiling
  }

  /** Reads to the end of what the ended container wrote. */
  async finish(): Promise<LogSummary> {
    await this.#tail?.finish()
    if (this.#bytes > this.#options.limitBytes) await this.#tellTail()
    else await this.#tellRest()
    await this.#options.stream.flush()
    await this.#store.finish()
    await this.#files.close()
    const { lost } = await readMarks(this.#options.folder)
    return {
      bytes: this.#bytes,
      lines: STREAMS.reduce((sum, stream) => sum + linesOf(this.#counted[stream]), 0),
      truncated: this.#bytes > this.#options.limitBytes || lost,
      uri: pathToFileURL(this.#options.file).href,
    }
  }

  /** Stops at once, for an attempt that will not be reported here. */
  async abandon(): Promise<void> {
    this.#options.stream.abandon()
    await this.#tail?.abandon()
    await this.#store.close()
    await this.#files.close()
  }

  /** The last line that was told and shows anything; read where it was written, so that it costs nothing until it is asked for. */
  async lastLine(): Promise<LiveContainer['lastOutput']> {
    const { file } = this.#store.position
    if (file === this.#lastLine.file) return this.#lastLine.told
    const at = new Date(this.#toldAt).toISOString()
    const bytes = await this.#store.lastBytes(LINE_BYTES)
    // The last of it is still being written: the next look sees it.
    if (bytes.length < Math.min(file, LINE_BYTES)) return this.#lastLine.told
    const line = lastLineOf(bytes, text => this.#options.redactor.text(text))
    const told = line === null ? this.#lastLine.told : { at, text: line }
    this.#lastLine = { file, told }
    return told
  }

  /** Nobody will resume it. */
  async settled(): Promise<void> {
    await this.#store.forgetIndex()
  }

  get #bytes(): number {
    return this.#counted.stdout.bytes + this.#counted.stderr.bytes
  }

  /** What lies shortly before a place may decide what is masked after it. */
  #contextOf(from: number): number {
    return Math.max(0, from - this.#options.redactor.margin)
  }

  /** What another worker has told already is counted once more, and not told again. */
  async #begin(): Promise<void> {
    this.#lastShown = (await this.#store.lastByte()) ?? this.#lastShown
    for (const stream of STREAMS) {
      const from = this.#pushed[stream]
      for await (const bytes of this.#files.pieces(stream, 0, from, PIECE_BYTES)) this.#count(stream, bytes)
      await this.#pushContext(this.#pipes[stream], from)
    }
    this.#tail = new LogTail({
      folder: this.#options.folder,
      files: this.#files,
      from: { ...this.#pushed },
      onSizes: sizes => this.#watchCeiling(sizes.stdout + sizes.stderr),
      take: chunk => this.#take(chunk),
    })
  }

  async #pushContext(pipe: LogPipe, from: number): Promise<void> {
    for await (const bytes of this.#files.pieces(pipe.stream, this.#contextOf(from), from, PIECE_BYTES))
      pipe.push(bytes, [])
  }

  #watchCeiling(bytes: number): void {
    if (this.#overCeiling || bytes <= this.#options.ceilingBytes) return
    this.#overCeiling = true
    this.#options.onCeiling()
  }

  async #take({ stream, offset, bytes }: LogChunk): Promise<void> {
    this.#count(stream, bytes)
    const left = this.#budget.head - this.#pushed.stdout - this.#pushed.stderr
    const room = this.#cutBefore ? 0 : Math.max(0, left)
    const now = bytes.subarray(0, room)
    if (now.length > 0) {
      this.#pushed[stream] = offset + now.length
      await this.#tell(await this.#partsOf(stream, now))
    }
    if (now.length < bytes.length)
      this.#later.add({ stream, from: offset + now.length, to: offset + bytes.length })
    if (this.#bytes <= this.#options.limitBytes || this.#truncated) return
    this.#truncated = true
    this.#options.onTruncated(this.#options.limitBytes)
  }

  /** A piece at a time: text that a task made for it costs the redactor ten times as much as other text. */
  async #partsOf(stream: StreamName, bytes: Buffer): Promise<LogPart[]> {
    const steps = await this.#steps.of(stream)
    const parts: LogPart[] = []
    let since = performance.now()
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      parts.push(...this.#pipes[stream].push(bytes.subarray(at, at + PIECE_BYTES), steps))
      if (performance.now() - since < TURN_MS) continue
      await setImmediate()
      since = performance.now()
    }
    return parts
  }

  #count(stream: StreamName, bytes: Buffer): void {
    const counted = this.#counted[stream]
    counted.bytes += bytes.length
    counted.lastByte = bytes[bytes.length - 1] ?? counted.lastByte
    counted.newlines += newlinesIn(bytes)
  }

  async #tell(parts: readonly LogPart[]): Promise<void> {
    const last = parts.findLast(({ bytes }) => bytes.length > 0)
    this.#lastShown = last?.bytes.at(-1) ?? this.#lastShown
    if (last) this.#toldAt = Date.now()
    await this.#store.append(parts)
    await this.#options.stream.write(parts)
  }

  /** The log is as long as it may be, or shorter: all of it is told. */
  async #tellRest(): Promise<void> {
    await this.#tellRanges(this.#later.last(Number.POSITIVE_INFINITY), this.#pipes)
  }

  /** The log is too long: its head ends where it was pushed to, and its tail is told behind what is missing. */
  async #tellTail(): Promise<void> {
    const { redactor, limitBytes } = this.#options
    const tailBytes = Math.max(0, this.#budget.tail - MARKER_BYTES)
    if (this.#cutBefore) {
      const left = Math.min(tailBytes, limitBytes - this.#store.position.file)
      return await this.#tellLast(this.#later.last(left))
    }
    for (const stream of STREAMS) {
      const border = this.#pushed[stream]
      const beyond: Buffer[] = []
      for await (const bytes of this.#files.pieces(stream, border, border + redactor.margin, PIECE_BYTES))
        beyond.push(bytes)
      await this.#tell(this.#pipes[stream].end(beyond, await this.#steps.of(stream), border))
    }
    const ranges = this.#later.last(tailBytes)
    if (this.#budget.tail === 0) return
    const tail = ranges.reduce((sum, { from, to }) => sum + to - from, 0)
    await this.#tellMissing(this.#bytes - this.#pushed.stdout - this.#pushed.stderr - tail)
    await this.#tellLast(ranges)
  }

  async #tellLast(ranges: readonly LogRange[]): Promise<void> {
    const pipes = {
      stdout: await this.#tailPipe('stdout', ranges),
      stderr: await this.#tailPipe('stderr', ranges),
    }
    await this.#tellRanges(ranges, pipes)
  }

  async #tailPipe(stream: StreamName, ranges: readonly LogRange[]): Promise<LogPipe> {
    const cut = ranges.find(range => range.stream === stream)?.from ?? this.#counted[stream].bytes
    // The rest of a character that is cut there is looked at and not told.
    const rest = incompleteHead(await this.#files.read(stream, cut, 3))
    const pipe = new LogPipe(stream, this.#options.redactor, cut + rest, this.#contextOf(cut))
    await this.#pushContext(pipe, cut)
    return pipe
  }

  async #tellMissing(bytes: number): Promise<void> {
    const text = `agirunner: ${bytes} bytes of the log are left out here\n`
    this.#store.cut()
    const shown = Buffer.from(this.#lastShown === 10 ? text : `\n${text}`)
    await this.#tell([{ stream: 'stderr', step: null, offset: this.#pushed.stderr, length: 0, bytes: shown }])
  }

  /** Reads ranges of the files, in this order, through these pipes to their ends. */
  async #tellRanges(
    ranges: readonly LogRange[],
    pipes: Readonly<Record<StreamName, LogPipe>>,
  ): Promise<void> {
    for (const { stream, from, to } of ranges) {
      const steps = await this.#steps.of(stream)
      for await (const bytes of this.#files.pieces(stream, from, to, PIECE_BYTES))
        await this.#tell(pipes[stream].push(bytes, steps))
    }
    for (const stream of STREAMS) await this.#tell(pipes[stream].end([], await this.#steps.of(stream)))
  }
}

/**
 * Where steps begin. The marks are read after the bytes: a step's mark is written before its first byte, so every byte
 * that was read has its mark there already.
 */
class StepCache {
  readonly #folder: string
  readonly #names: readonly (string | null)[]
  #size = -1
  #marks: GateMarks['steps'] = []

  constructor(folder: string, names: readonly (string | null)[]) {
    this.#folder = folder
    this.#names = names
  }

  async of(stream: StreamName): Promise<StepStart[]> {
    if (this.#names.length === 0) return []
    const size = await sizeOfMarks(this.#folder)
    if (size !== this.#size) {
      this.#marks = (await readMarks(this.#folder)).steps
      this.#size = size
    }
    return this.#marks.map(step => ({
      name: this.#names[step.index] ?? null,
      offset: stream === 'stdout' ? step.stdoutOffset : step.stderrOffset,
    }))
  }
}

function newCount(): Counted {
  return { bytes: 0, newlines: 0, lastByte: 10 }
}

/** A last line without a newline counts. */
function linesOf({ bytes, newlines, lastByte }: Counted): number {
  return newlines + (bytes > 0 && lastByte !== 10 ? 1 : 0)
}
