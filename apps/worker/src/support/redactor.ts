import { formsOf, MIN_BYTES } from './redaction/forms.js'
import { Matcher, type Needle } from './redaction/matcher.js'
import { SHAPES } from './redaction/shapes.js'
import { RedactingStream } from './redaction/stream.js'
import type { Secret } from './secret.js'

/** Tells whether a secret, in any form, has been seen in the bytes so far. */
export interface SecretFinder {
  push(bytes: Buffer): boolean
}

/** How much of a long form is looked for: the first of these that keeps the table within MAX_STATES. */
const HEADS = [96, 32, 16, 12]
/** A state takes some 400 bytes. */
const MAX_STATES = 100_000

/**
 * Masks secrets in what leaves the worker: these, byte by byte, in base64, percent-encoding, JSON and hexadecimal digits;
 * and what looks like somebody's token.
 */
export class Redactor {
  /** Names of secrets that are too short to be masked. */
  readonly notMaskable: readonly string[]
  /** What is masked at some place in a stream may depend on so many bytes before and after it. */
  readonly margin: number
  readonly #matcher: Matcher

  /** @param secrets with the names by which a person knows them */
  static of(secrets: readonly { readonly name: string; readonly value: Secret }[]): Redactor {
    const values = secrets.map(({ name, value }) => ({ name, bytes: value.reveal() }))
    const tooShort = values.filter(({ bytes }) => bytes.length < MIN_BYTES).map(({ name }) => name)
    if (tooShort.length === values.length) return new Redactor(tooShort, NO_SECRETS, 0)
    const forms = values.flatMap(({ bytes }) => (bytes.length < MIN_BYTES ? [] : formsOf(bytes)))
    const longest = Math.max(...forms.map(form => form.length))
    return new Redactor(tooShort, new Matcher([...needlesOf(forms), ...SHAPE_NEEDLES]), longest)
  }

  private constructor(notMaskable: readonly string[], matcher: Matcher, longest: number) {
    this.notMaskable = notMaskable
    this.#matcher = matcher
    this.margin = Math.max(longest, LONGEST_SHAPE)
  }

  /** @param offset where in the stream the first byte is */
  stream(offset = 0): RedactingStream {
    return new RedactingStream(this.#matcher, offset)
  }

  text(text: string): string {
    const stream = this.stream()
    const pieces = [...stream.push(Buffer.from(text, 'utf8')), ...stream.flush()]
    return Buffer.concat(pieces.map(({ bytes }) => bytes)).toString('utf8')
  }

  /** A copy of a JSON value in which every text is masked, names of members too. */
  json<T>(value: T): T {
    return this.#copy(value) as T
  }

  finds(): SecretFinder {
    const matcher = this.#matcher
    const { next, classes, skipper } = matcher
    let state = 0
    let seen = false
    return {
      push: bytes => {
        for (let at = 0; at < bytes.length && !seen; at += 1) {
          if (state === 0 && skipper !== null) at = skipper.next(bytes, at)
          state = next[state + (classes[bytes[at] as number] as number)] as number
          if (state >= 0) continue
          state = ~state
          seen = matcher.ended(state).some(({ shape }) => shape === null)
        }
        return seen
      },
    }
  }

  #copy(value: unknown): unknown {
    if (typeof value === 'string') return this.text(value)
    if (Array.isArray(value)) return value.map(one => this.#copy(one))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [this.text(name), this.#copy(one)]))
  }
}

const SHAPE_NEEDLES: readonly Needle[] = SHAPES.map(shape => ({
  bytes: Buffer.from(shape.prefix, 'latin1'),
  rest: null,
  shape,
}))
const LONGEST_SHAPE = Math.max(...SHAPES.map(({ prefix, max }) => prefix.length + max + 1))
const NO_SECRETS = new Matcher(SHAPE_NEEDLES)

/** Of a form that is long, a beginning tells enough; what comes after it is masked as long as it is the same. */
function needlesOf(forms: readonly Buffer[]): Needle[] {
  const statesWith = (head: number) => forms.reduce((sum, form) => sum + Math.min(form.length, head), 0)
  const head = HEADS.find(length => statesWith(length) <= MAX_STATES) ?? (HEADS.at(-1) as number)
  return forms.map(form => ({ bytes: form.subarray(0, head), rest: form.subarray(head), shape: null }))
}
