import { redactText } from './redact.js'

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
  const text = pieces.join('')
  // Nearly always there is nothing to join.
  if (redactText(text) === pieces.map(redactText).join('')) return [...pieces]
  const joined: string[] = []
  let first = 0
  let border = 0
  for (const [index, piece] of pieces.entries()) {
    joined.push('')
    if (!isSplit(text, border)) first = index
    joined[first] += piece
    border += piece.length
  }
  return joined
}

function isSplit(text: string, border: number): boolean {
  const left = text.slice(Math.max(0, border - BORDER), border)
  const right = text.slice(border, border + BORDER)
  return redactText(left + right) !== redactText(left) + redactText(right)
}
