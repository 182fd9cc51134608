import { createLogUpdate } from 'log-update'
import type { Sink } from './output.js'

/** Where the output is no terminal, what is shown again is told apart by an empty line. */
const SEPARATOR = ''

/** Shows a text that changes: redrawn in place on a terminal, else printed anew whenever it has changed. */
export class LiveScreen {
  readonly #sink: Sink
  readonly #redraw: ReturnType<typeof createLogUpdate> | null
  #shown: string | null = null

  constructor(sink: Sink) {
    this.#sink = sink
    const terminal = sink.stream as NodeJS.WriteStream
    // One of no size, as some tools make them, would be shown nothing.
    const hasSize = terminal.columns > 0 && terminal.rows > 0
    this.#redraw = sink.isTerminal && hasSize ? createLogUpdate(terminal) : null
  }

  /** How many lines it has room for. */
  get rows(): number {
    return this.#redraw ? Math.max(2, this.#sink.size.rows - 1) : Number.POSITIVE_INFINITY
  }

  /** How many characters a line has room for. */
  get columns(): number {
    return this.#redraw ? this.#sink.size.columns : Number.POSITIVE_INFINITY
  }

  /** @param sameAs what must differ for the text to be printed anew, where it is not redrawn; the text itself by default */
  async show(lines: readonly string[], sameAs = lines.join('\n')): Promise<void> {
    if (this.#redraw) {
      this.#redraw(lines.join('\n'))
      return
    }
    if (sameAs === this.#shown) return
    if (this.#shown !== null) await this.#sink.line(SEPARATOR)
    this.#shown = sameAs
    for (const line of lines) await this.#sink.line(line)
  }

  /** Leaves what was shown last on the screen. */
  end(): void {
    this.#redraw?.done()
  }
}

/**
 * Runs what shows something until it is told to end: Ctrl-C and SIGTERM are its usual end.
 *
 * @param watch gets a signal that aborts then; what it throws for that is no error
 */
export async function untilStopped(watch: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const stop = new AbortController()
  const onSignal = () => stop.abort()
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  try {
    await watch(stop.signal)
  } catch (error) {
    if (!stop.signal.aborted) throw error
  } finally {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}
