import type { Shape } from './shapes.js'
import { Skipper } from './skipper.js'

/** What is looked for: a form of a secret, of which `rest` may be missing at its end, or the prefix of a shape. */
export type Needle =
  | { readonly bytes: Buffer; readonly rest: Buffer; readonly shape: null }
  | { readonly bytes: Buffer; readonly rest: null; readonly shape: Shape }

/**
 * Finds all needles in one pass over the bytes (Aho and Corasick, 1975), whatever their number and wherever chunks end.
 * A state is what the bytes so far end with, as far as a needle begins so. It stands for itself in this table, times
 * `width`; 0 is the start.
 */
export class Matcher {
  /** `next[state + classes[byte]]` is the state after the byte; where needles end in that, it is `~state`. */
  readonly next: Int32Array
  readonly width: number
  readonly classes: Uint16Array
  /** Tells what need not be looked at in the start state; null where everything has to be. */
  readonly skipper: Skipper | null
  readonly #open: Uint16Array
  readonly #ended = new Map<number, Needle[]>()

  /**
   * @param needles none longer than 65535 bytes
   * @param skips whether bytes that begin no needle may be stepped over; what is found is the same
   */
  constructor(needles: readonly Needle[], skips = true) {
    this.skipper = skips ? Skipper.of(needles.map(({ bytes }) => bytes)) : null
    const { classes, width } = classesOf(needles)
    this.classes = classes
    this.width = width
    const states = 1 + needles.reduce((sum, { bytes }) => sum + bytes.length, 0)
    const next = new Int32Array(states * width)
    const depth = new Uint16Array(states)
    let made = 1
    for (const needle of needles) {
      let state = 0
      for (const byte of needle.bytes) {
        const at = state * width + (classes[byte] ?? 0)
        if (next[at] === 0) {
          depth[made] = (depth[state] ?? 0) + 1
          next[at] = made
          made += 1
        }
        state = next[at] ?? 0
      }
      this.#end(state, [needle])
    }
    this.next = next.subarray(0, made * width)
    this.#open = new Uint16Array(made)
    this.#link(depth)
    this.#mark()
  }

  /** The needles that end in a state. */
  ended(state: number): readonly Needle[] {
    return this.#ended.get(state / this.width) ?? []
  }

  /** How many bytes at the end may be the beginning of a needle that is not whole yet. */
  open(state: number): number {
    return this.#open[state / this.width] ?? 0
  }

  #end(state: number, needles: readonly Needle[]): void {
    if (needles.length === 0) return
    this.#ended.set(state, [...(this.#ended.get(state) ?? []), ...needles])
  }

  /** So far states were numbers in a row: now they are what the search has to go by. */
  #mark(): void {
    const { next, width } = this
    for (let at = 0; at < next.length; at += 1) {
      const state = next[at] ?? 0
      next[at] = this.#ended.has(state) ? ~(state * width) : state * width
    }
  }

  /** Breadth first: where a byte leads nowhere, it leads where it would from the longest shorter beginning. */
  #link(depth: Uint16Array): void {
    const { next, width } = this
    const open = this.#open
    const shorter = new Int32Array(open.length)
    const queue: number[] = []
    for (let at = 0; at < width; at += 1) if (next[at] !== 0) queue.push(next[at] ?? 0)
    for (let first = 0; first < queue.length; first += 1) {
      const state = queue[first] ?? 0
      const fallback = shorter[state] ?? 0
      this.#end(state, this.#ended.get(fallback) ?? [])
      let isWhole = true
      for (let at = 0; at < width; at += 1) {
        const below = next[state * width + at] ?? 0
        const aside = next[fallback * width + at] ?? 0
        if (below === 0) next[state * width + at] = aside
        else {
          isWhole = false
          shorter[below] = aside
          queue.push(below)
        }
      }
      open[state] = isWhole ? (open[fallback] ?? 0) : (depth[state] ?? 0)
    }
  }
}

/** Bytes that are in no needle are all alike. */
function classesOf(needles: readonly Needle[]): { classes: Uint16Array; width: number } {
  const classes = new Uint16Array(256)
  let width = 1
  for (const { bytes } of needles) {
    for (const byte of bytes) {
      if (classes[byte] !== 0) continue
      classes[byte] = width
      width += 1
    }
  }
  return { classes, width }
}
