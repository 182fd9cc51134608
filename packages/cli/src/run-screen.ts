import type { LogEntry } from '@agirunner/contracts'
import type { Io, Sink } from './output.js'

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

  constructor(io: Io, options: { logToStderr: boolean }) {
    this.#io = io
    this.#logToStderr = options.logToStderr
  }

  async log({ stream, text }: LogEntry): Promise<void> {
    if (text === '') return
    const sink = this.#sinkOf(stream)
    // Before anything is awaited, so that an own line that comes meanwhile sees where the log stands.
    if (this.#sharesLines(sink)) this.#midLine = !text.endsWith('\n')
    await sink.write(text)
    if (!this.#midLine) await this.#release()
  }

  /** Writes a line of the command's own. */
  async say(text: string): Promise<void> {
    this.#held.push(text)
    if (!this.#midLine || this.#ended) await this.#release()
  }

  /** The log is over: what waited is written, below an unfinished line of the log. */
  async end(): Promise<void> {
    this.#ended = true
    if (this.#midLine) await this.#io.err.write('\n')
    this.#midLine = false
    await this.#release()
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
    for (const line of lines) await this.#io.err.line(`agirunner: ${line}`)
  }
}
