import type { LogRange } from './log-files.js'

/** How many runs are told apart; with more, old ones lose their order among each other. */
const MAX_RANGES = 4096

/** How a log is cut that becomes too long: what is told as it comes, and what of its end is told at the end. */
export interface LogBudget {
  readonly head: number
  readonly tail: number
}

const MAX_TAIL = 2 ** 20
/** Below this, a log that is cut has no end: what would be said of the cut took more room than it. */
const MIN_LIMIT = 4096

/** @param limit of the whole, in bytes */
export function budgetOf(limit: number): LogBudget {
  const tail = limit < MIN_LIMIT ? 0 : Math.min(Math.floor(limit / 4), MAX_TAIL)
  return { head: limit - tail, tail }
}

/** The last runs of both streams in the order of their arrival, of so many bytes at most; the bytes lie in the files. */
export class LastRanges {
  readonly #max: number
  #ranges: LogRange[] = []
  #bytes = 0

  constructor(max: number) {
    this.#max = max
  }

  add(range: LogRange): void {
    const last = this.#ranges.at(-1)
    if (last?.stream === range.stream && last.to === range.from) {
      this.#ranges[this.#ranges.length - 1] = { ...last, to: range.to }
    } else this.#ranges.push(range)
    this.#bytes += range.to - range.from
    // Twice as much is kept before any of it is let go, so that not every run costs a walk over all of them.
    if (this.#bytes > 2 * this.#max) this.#keep(this.last(this.#max))
    if (this.#ranges.length > 2 * MAX_RANGES) this.#keep(this.#joined())
  }

  #keep(ranges: LogRange[]): void {
    this.#ranges = ranges
    this.#bytes = ranges.reduce((sum, { from, to }) => sum + to - from, 0)
  }

  /** Those of the last `bytes`, the first of them cut. */
  last(bytes: number): LogRange[] {
    const chosen: LogRange[] = []
    let room = bytes
    for (const range of this.#ranges.toReversed()) {
      if (room <= 0) break
      const from = Math.max(range.from, range.to - room)
      chosen.push({ ...range, from })
      room -= range.to - from
    }
    return chosen.reverse()
  }

  /** The older half as one run of each stream. */
  #joined(): LogRange[] {
    const old = this.#ranges.slice(0, -MAX_RANGES)
    const joined = (['stdout', 'stderr'] as const).flatMap(stream => {
      const own = old.filter(range => range.stream === stream)
      const [first, last] = [own[0], own.at(-1)]
      return first && last ? [{ stream, from: first.from, to: last.to }] : []
    })
    return [...joined, ...this.#ranges.slice(-MAX_RANGES)]
  }
}
