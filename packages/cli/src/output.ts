import { once } from 'node:events'
import type { Writable } from 'node:stream'

/** One of the process' outputs: waits for a slow reader, and goes quiet when the reader is gone. */
export class Sink {
  readonly #stream: Writable
  #closed = false

  constructor(stream: Writable) {
    this.#stream = stream
    // EPIPE: `agirunner logs t-1 | head` is no reason to crash.
    stream.on('error', () => {
      this.#closed = true
    })
  }

  /** Whether nobody reads any more. */
  get closed(): boolean {
    return this.#closed
  }

  /** Whether a person sees it. */
  get isTerminal(): boolean {
    return (this.#stream as { isTTY?: boolean }).isTTY === true
  }

  /** For who draws on a terminal. */
  get stream(): Writable {
    return this.#stream
  }

  /** Of the terminal, in characters; as terminals mostly are where it does not say. */
  get size(): { readonly rows: number; readonly columns: number } {
    const { rows, columns } = this.#stream as { rows?: number; columns?: number }
    return { rows: rows || 24, columns: columns || 80 }
  }

  /** Resolves when more may be written. */
  async write(data: string | Uint8Array): Promise<void> {
    if (this.#closed || data.length === 0) return
    if (this.#stream.write(data)) return
    const gone = new AbortController()
    const { signal } = gone
    // `once` rejects on an error event, which only says what `#closed` knows already.
    await Promise.race([
      once(this.#stream, 'drain', { signal }),
      once(this.#stream, 'close', { signal }),
    ]).catch(() => undefined)
    gone.abort()
  }

  /** Writes one line of text. */
  async line(text: string): Promise<void> {
    await this.write(`${text}\n`)
  }
}

/** Where a command writes. */
export interface Io {
  readonly stdin: AsyncIterable<Uint8Array | string>
  readonly out: Sink
  readonly err: Sink
}

/** `1` → `1 ms`, `1234` → `1.2 s`, `90000` → `1 min 30 s`. */
export function showDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
}

export interface TableOptions {
  /** How long a line may be, in characters; what is longer is cut. */
  readonly columns?: number
  /** Colours the cells of one column that is not the last. */
  readonly paint?: { readonly column: number; readonly paint: (cell: string) => string }
}

/** Rows as columns that line up; the first row is the heading. */
export function table(
  rows: readonly (readonly string[])[],
  { columns = Number.POSITIVE_INFINITY, paint }: TableOptions = {},
): string[] {
  const widths: number[] = []
  for (const row of rows)
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length)
  return rows.map(row => {
    let room = columns
    const cells = row.map((cell, i) => {
      const padded = (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0)).slice(0, Math.max(0, room))
      room -= padded.length + 2
      return paint?.column === i ? paint.paint(padded) : padded
    })
    return cells.join('  ').trimEnd()
  })
}

/** An address without the password in it. */
export function maskUrl(url: string): string {
  if (!URL.canParse(url)) return url
  const parsed = new URL(url)
  if (parsed.password === '') return url
  parsed.password = '***'
  return parsed.href
}
