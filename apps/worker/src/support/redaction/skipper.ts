/** How much of a needle's beginning is looked for; all prefixes of shapes but one have at least so many bytes. */
const WINDOW = 4
/** The most that a window may move when its last two bytes are in no needle's beginning. */
const FAR = WINDOW - 1
/** Pairs of bytes are told apart by so many bits: the table stays in a core's first cache. */
const MASK = 0xfff
const HEAD = 1
const TAIL = 2
/** With more of all pairs ending a beginning than this, of a thousand, stepping over text costs more than it saves. */
const MAX_CANDIDATES = 150

/**
 * Steps over bytes that begin no needle, most of them unread (Wu and Manber, 1994): the last two bytes of a window tell
 * how far it is, at least, to where a needle can begin. A third of the time that the automaton takes for a build's log,
 * with and without secrets; where text is nothing but beginnings, a little more than it.
 */
export class Skipper {
  /** How far the window may move, by its last two bytes; 0 where a needle may lie in it. */
  readonly #shifts = new Uint8Array(MASK + 1).fill(FAR)
  /** HEAD and TAIL for the first and last two bytes of windows with a needle in them; looked at only where that may be. */
  readonly #ends = new Uint8Array(0x10000)

  /** @returns null where there are too many needles for it to be of use, or one that is too short for it */
  static of(needles: readonly Buffer[]): Skipper | null {
    if (needles.some(({ length }) => length < FAR)) return null
    const skipper = new Skipper(needles)
    const candidates = skipper.#shifts.reduce((sum, shift) => sum + (shift === 0 ? 1 : 0), 0)
    return candidates * 1000 > MAX_CANDIDATES * (MASK + 1) ? null : skipper
  }

  private constructor(needles: readonly Buffer[]) {
    for (const needle of needles) this.#add(needle)
  }

  /**
   * @returns the first place from `from` on at which a needle may begin, or of which too few bytes are there to tell:
   * never more than the needle's first bytes lie before it
   */
  next(bytes: Buffer, from: number): number {
    const shifts = this.#shifts
    const ends = this.#ends
    // A needle of three bytes has one before it in its window, so the first window begins one byte early.
    let last = from + WINDOW - 2
    while (last < bytes.length) {
      const shift = shifts[pairOf(bytes[last - 1] as number, bytes[last] as number)] as number
      if (shift > 0) {
        last += shift
        continue
      }
      const first = last - WINDOW + 1
      if (first < from) return from
      const head = ends[((bytes[first] as number) << 8) | (bytes[first + 1] as number)] as number
      const tail = ends[((bytes[last - 1] as number) << 8) | (bytes[last] as number)] as number
      if ((head & HEAD) !== 0 && (tail & TAIL) !== 0) return first
      last += 1
    }
    return Math.max(from, bytes.length - WINDOW + 1)
  }

  /** A short needle lies at the end of its window, with any byte before it. */
  #add(needle: Buffer): void {
    const any = WINDOW - Math.min(WINDOW, needle.length)
    const at = (place: number) => (place < any ? ALL_BYTES : [needle[place - any] as number])
    for (let place = 0; place < FAR; place += 1) {
      const shift = FAR - 1 - place
      for (const first of at(place)) {
        for (const second of at(place + 1)) {
          const pair = pairOf(first, second)
          this.#shifts[pair] = Math.min(this.#shifts[pair] as number, shift)
          const both = (first << 8) | second
          if (place === 0) this.#ends[both] = (this.#ends[both] as number) | HEAD
          if (place === FAR - 1) this.#ends[both] = (this.#ends[both] as number) | TAIL
        }
      }
    }
  }
}

const ALL_BYTES = Array.from({ length: 256 }, (_, byte) => byte)

function pairOf(first: number, second: number): number {
  return ((first << 6) ^ second) & MASK
}
