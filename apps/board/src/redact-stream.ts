import { REDACTED, redactText } from './redact.js'

const BEGIN = /-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----/g
const END = /-----END [A-Z ]{0,40}PRIVATE KEY-----/
/** The longest of what looks like a secret is some thousand characters: so much of both sides of a border is looked at. */
const BORDER = 4096

/** No key is longer; a text that only begins one is not hidden for ever. */
const LONGEST_KEY = 16_384

/** Makes a text fit to be shown that comes in pieces: a private key has many lines, and they may come one by one. */
export class TextRedactor {
  /** How much of a key may still come; 0 outside of one. */
  #keyLeft = 0

  /** A piece as it may be shown; the next one follows it. */
  redact(piece: string): string {
    const rest = this.#keyLeft > 0 ? this.#afterKey(piece) : piece
    const opened = [...rest.matchAll(BEGIN)].at(-1)
    if (opened && !END.test(rest.slice(opened.index))) this.#keyLeft = LONGEST_KEY
    return redactText(rest)
  }

  #afterKey(piece: string): string {
    const hidden = piece.slice(0, this.#keyLeft)
    const end = END.exec(hidden)
    this.#keyLeft = end ? 0 : this.#keyLeft - hidden.length
    return piece.slice(end ? end.index + end[0].length : hidden.length)
  }
}

/**
 * Joins pieces of one text where something that looks like a secret lies across their border: the first of them gets it
 * all, the others become empty.
 *
 * @example joinSecrets(['token=hun', 'ter2 ok']) // ['token=hunter2 ok', '']
 */
export function joinSecrets(pieces: readonly string[]): string[] {
  const joined = [...pieces]
  let first = 0
  for (let i = 1; i < joined.length; i += 1) {
    const piece = joined[i] as string
    if (piece === '') continue
    if (isSplit(joined[first] as string, piece)) {
      joined[first] += piece
      joined[i] = ''
    } else first = i
  }
  return joined
}

function isSplit(left: string, right: string): boolean {
  const tail = left.slice(-BORDER)
  const head = right.slice(0, BORDER)
  const together = redactText(tail + head)
  return together !== redactText(tail) + redactText(head) && together.includes(REDACTED)
}
