import type { LogEntry } from '@agirunner/contracts'
import type { Io, Sink } from './output.js'

/** To the line's beginning, and nothing of it is left. */
const CLEAR_LINE = '\r\u001b[2K'

/**
 * Puts a task's log and the command's own lines on the same two outputs. Log bytes pass unaltered; so that an own line
 * neither starts nor splits a line of the log, it waits while the log stands in the middle of one.
 */
export class RunScreen {
  readonly #io: Io
  readonly #logToStderr: boolean
  /** Whether the log stands in the middle of a line where own lines are written. */
  #midLine = false
  #held: string[] = []
  #ended = false
  /** Whether a line that is to be drawn over stands below everything else. */
  #hasBar = false

  constructor(io: Io, options: { logToStderr: boolean }) {
    this.#io = io
    this.#logToStderr = options.logToStderr
  }

  async log({ stream, text }: LogEntry): Promise<void> {
    if (text === '') return
    const sink = this.#sinkOf(stream)
    // Before anything is awaited, so that an own line that comes meanwhile sees where the log stands.
    if (this.#sharesLines(sink)) this.#midLine = !text.endsWith('\n')
    this.#clearBar()
    await sink.write(text)
    if (!this.#midLine) await this.#release()
  }

  /** Whether somebody sees how a line is drawn over. */
  get hasBars(): boolean {
    return this.#io.err.isTerminal
  }

  /** Draws a line of the command's own over the one before; the next that is written takes its place. For terminals alone. */
  async bar(text: string): Promise<void> {
    if (!this.hasBars || this.#midLine || this.#ended) return
    this.#hasBar = true
    await this.#io.err.write(`${CLEAR_LINE}${`agirunner: ${text}`.slice(0, this.#io.err.size.columns - 1)}`)
  }

  /** Writes a line of the command's own. */
  async say(text: string): Promise<void> {
    this.#held.push(text)
    if (!this.#midLine || this.#ended) await this.#release()
  }

  /** The log is over: what waited is written, below an unfinished line of the log. */
  async end(): Promise<void> {
    this.#ended = true
    this.#clearBar()
    if (this.#midLine) await this.#io.err.write('\n')
    this.#midLine = false
    await this.#release()
  }

  /** Without waiting: nothing may come between it and what is written next. */
  #clearBar(): void {
    if (!this.#hasBar) return
    this.#hasBar = false
    void this.#io.err.write(CLEAR_LINE)
  }

  #sinkOf(stream: LogEntry['stream']): Sink {
    return stream === 'stdout' && !this.#logToStderr ? this.#io.out : this.#io.err
  }

  /** On a terminal both outputs are one text. */
  #sharesLines(sink: Sink): boolean {
    return sink === this.#io.err || (sink.isTerminal && this.#io.err.isTerminal)
  }

  async #release(): Promise<void> {
    const lines = this.#held
    this.#held = []
    if (lines.length > 0) this.#clearBar()
    for (const line of lines) await this.#io.err.line(`agirunner: ${line}`)
  }
}
