import { randomBytes } from 'node:crypto'

/** What a stream holds: bytes of the task's, or the border where a step of that index begins. */
export type Piece = { readonly bytes: Buffer } | { readonly step: number }

const NEWLINE = 10
/** A border's number and newline take so many bytes at most; what is longer is no border. */
const MAX_TAIL = 8

/**
 * The text that a gate prints to both streams before a step, when the streams are all that the worker sees: the head,
 * the step's index and a newline. Begins with a byte that hardly anything prints; the rest is not to be guessed.
 */
export function newBorder(): string {
  return `\u0001agirunner-step-${randomBytes(16).toString('hex')} `
}

/** Takes the borders out of one stream, wherever the chunks are cut; holds back no more than a border's length. */
export class StepBorders {
  readonly #head: Buffer
  #held = Buffer.alloc(0)

  constructor(head: string) {
    this.#head = Buffer.from(head, 'latin1')
  }

  push(chunk: Buffer): Piece[] {
    const bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk
    const pieces: Piece[] = []
    let from = 0
    let search = 0
    for (;;) {
      const at = bytes.indexOf(this.#head, search)
      if (at === -1) break
      const end = this.#endOf(bytes, at)
      if (end === 'unknown') return this.#hold(pieces, bytes, from, at)
      search = end ?? at + 1
      if (end === null) continue
      if (at > from) pieces.push({ bytes: bytes.subarray(from, at) })
      pieces.push({ step: Number(bytes.toString('latin1', at + this.#head.length, end - 1)) })
      from = end
    }
    return this.#hold(pieces, bytes, from, bytes.length - this.#begun(bytes.subarray(from)))
  }

  /** What was held back, when nothing comes any more. */
  flush(): Piece[] {
    const bytes = this.#held
    this.#held = Buffer.alloc(0)
    return bytes.length > 0 ? [{ bytes }] : []
  }

  #hold(pieces: Piece[], bytes: Buffer, from: number, at: number): Piece[] {
    this.#held = Buffer.from(bytes.subarray(at))
    return at > from ? [...pieces, { bytes: bytes.subarray(from, at) }] : pieces
  }

  /** Behind the border at `at`; null when it is none, `unknown` when its end has not come yet. */
  #endOf(bytes: Buffer, at: number): number | null | 'unknown' {
    const tail = bytes.subarray(at + this.#head.length, at + this.#head.length + MAX_TAIL)
    const newline = tail.indexOf(NEWLINE)
    if (newline === -1) return tail.length < MAX_TAIL ? 'unknown' : null
    return /^\d+$/.test(tail.toString('latin1', 0, newline)) ? at + this.#head.length + newline + 1 : null
  }

  /** How many bytes at the end may be the beginning of a head. */
  #begun(bytes: Buffer): number {
    const last = bytes.lastIndexOf(this.#head[0] ?? 0)
    if (last === -1) return 0
    const end = bytes.subarray(last)
    return this.#head.subarray(0, end.length).equals(end) ? end.length : 0
  }
}
