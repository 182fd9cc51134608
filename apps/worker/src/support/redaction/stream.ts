import type { Matcher, Needle } from './matcher.js'
import type { Shape } from './shapes.js'

/** A run of a stream's bytes, and what is to be shown in their place. */
export interface Redacted {
  /** Where it begins in the stream as it was produced, and how many bytes of it this stands for. */
  readonly offset: number
  readonly length: number
  /** The bytes themselves, `***` for what was masked, or nothing for the rest of what was masked just before. */
  readonly bytes: Buffer
  readonly masked: boolean
}

const MASK = Buffer.from('***')
const NOTHING = Buffer.alloc(0)
/** A text that is one long repetition begins its needle anew with every byte: then the first ones do for all. */
const MAX_RUNS = 8

interface Mask {
  start: number
  end: number
}

/** A needle was found whose end is not known yet. */
type Run =
  | { readonly type: 'rest'; readonly of: Needle; readonly bytes: Buffer; at: number }
  | {
      readonly type: 'shape'
      readonly of: Needle
      readonly shape: Shape
      readonly allowed: Uint8Array
      readonly start: number
      count: number
      colon: boolean
    }

/**
 * Masks what its matcher finds in a stream of bytes, wherever its chunks end. Held back is only what may be the beginning
 * of something to mask, until the byte that decides; so memory is bounded whatever comes.
 */
export class RedactingStream {
  readonly #matcher: Matcher
  #state = 0
  readonly #runs: Run[] = []
  /** Found and not yet passed on; in order, and apart from each other. */
  #masks: Mask[] = []
  /** Taken and not yet passed on, and where it begins. */
  #held: Buffer = NOTHING
  #from: number
  /** Whether what was passed on last was masked. */
  #masking = false

  /** @param offset where in the stream the first byte is */
  constructor(matcher: Matcher, offset = 0) {
    this.#matcher = matcher
    this.#from = offset
  }

  /** @param bytes what comes of them are views, and nothing is kept of them */
  push(bytes: Buffer): Redacted[] {
    const start = this.#from + this.#held.length
    this.#scan(bytes, start)
    this.#held = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes])
    const end = start + bytes.length
    const open = this.#runs.flatMap(run => (run.type === 'shape' ? [run.start] : []))
    return this.#pass(Math.min(end - this.#matcher.open(this.#state), ...open))
  }

  /** Everything that is still held back: nothing comes after it. */
  flush(): Redacted[] {
    const end = this.#from + this.#held.length
    for (const run of this.#runs) this.#end(run, end)
    this.#runs.length = 0
    this.#state = 0
    return this.#pass(end)
  }

  #scan(bytes: Buffer, offset: number): void {
    const { next, classes, skipper } = this.#matcher
    const runs = this.#runs
    let state = this.#state
    for (let at = 0; at < bytes.length; at += 1) {
      if (state === 0 && skipper !== null && runs.length === 0) at = skipper.next(bytes, at)
      const byte = bytes[at] as number
      if (runs.length > 0) this.#advance(byte, offset + at)
      state = next[state + (classes[byte] as number)] as number
      if (state >= 0) continue
      state = ~state
      for (const needle of this.#matcher.ended(state)) this.#found(needle, offset + at + 1)
    }
    this.#state = state
  }

  #found(needle: Needle, end: number): void {
    const { bytes, rest, shape } = needle
    const start = end - bytes.length
    if (shape === null) this.#mask(start, end)
    if (rest?.length === 0 || this.#runs.filter(run => run.of === needle).length >= MAX_RUNS) return
    if (shape === null) this.#runs.push({ type: 'rest', of: needle, bytes: rest, at: 0 })
    else {
      this.#runs.push({
        type: 'shape',
        of: needle,
        shape,
        allowed: allowedBy(shape),
        start: shape.keepsPrefix ? end : start,
        count: 0,
        colon: false,
      })
    }
  }

  /** One byte further with everything whose end is not known. */
  #advance(byte: number, offset: number): void {
    let kept = 0
    for (const run of this.#runs) {
      if (!this.#goesOn(run, byte, offset)) continue
      this.#runs[kept] = run
      kept += 1
    }
    if (kept < this.#runs.length) this.#runs.length = kept
  }

  #goesOn(run: Run, byte: number, offset: number): boolean {
    if (run.type === 'rest') {
      if (run.bytes[run.at] !== byte) return false
      this.#mask(offset, offset + 1)
      run.at += 1
      return run.at < run.bytes.length
    }
    if (run.allowed[byte] === 1 && run.count < run.shape.max) {
      run.count += 1
      run.colon ||= byte === COLON
      return true
    }
    if (run.shape.end === null || String.fromCharCode(byte) === run.shape.end) this.#end(run, offset)
    return false
  }

  #end(run: Run, end: number): void {
    if (run.type === 'rest' || run.count < run.shape.min) return
    // A name alone is no secret, unless it is as long as a token.
    if (run.shape.end !== null && !run.colon && run.count < TOKEN_LENGTH) return
    this.#mask(run.start, end)
  }

  /** They come in the order of their ends. */
  #mask(start: number, end: number): void {
    const latest = this.#masks.at(-1)
    if (latest && latest.start <= start && start <= latest.end) {
      latest.end = end
      return
    }
    let from = start
    for (let last = this.#masks.at(-1); last && last.end >= from; last = this.#masks.at(-1)) {
      from = Math.min(from, last.start)
      this.#masks.pop()
    }
    this.#masks.push({ start: from, end })
  }

  /** Passes on what lies before `to`. A mask that goes on beyond is told at its beginning. */
  #pass(to: number): Redacted[] {
    const passed: Redacted[] = []
    const held = this.#held
    const from = this.#from
    let at = from
    const plain = (end: number) => {
      if (end <= at) return
      passed.push({
        offset: at,
        length: end - at,
        bytes: held.subarray(at - from, end - from),
        masked: false,
      })
      this.#masking = false
      at = end
    }
    while (this.#masks[0] && this.#masks[0].start < to) {
      const mask = this.#masks[0]
      plain(mask.start)
      const end = Math.min(mask.end, to)
      passed.push({ offset: at, length: end - at, bytes: this.#masking ? NOTHING : MASK, masked: true })
      this.#masking = true
      at = end
      if (mask.end > to) {
        mask.start = to
        break
      }
      this.#masks.shift()
    }
    plain(to)
    // A copy, so that a few bytes do not keep a whole chunk, and that the caller may use its buffer again.
    this.#held = at === from + held.length ? NOTHING : Buffer.from(held.subarray(at - from))
    this.#from = at
    return passed
  }
}

const COLON = ':'.charCodeAt(0)
const TOKEN_LENGTH = 20

const alphabets = new Map<Shape, Uint8Array>()

function allowedBy(shape: Shape): Uint8Array {
  const known = alphabets.get(shape)
  if (known) return known
  const allowed = Uint8Array.from({ length: 256 }, (_, byte) =>
    // Bytes beyond ASCII are part of some character, which no token has.
    byte < 128 && shape.alphabet.test(String.fromCharCode(byte)) ? 1 : 0,
  )
  alphabets.set(shape, allowed)
  return allowed
}
