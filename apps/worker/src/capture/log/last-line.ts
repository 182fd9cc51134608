import { stripVTControlCharacters } from 'node:util'

/** In characters. */
const MAX_LINE = 200

/**
 * The last line that shows anything, as plain text, cut; null when none does.
 *
 * @param bytes the end of a log, redacted
 * @param redact once more: what a terminal does not show may have kept a secret from being one
 */
export function lastLineOf(bytes: Buffer, redact: (text: string) => string): string | null {
  const lines = stripVTControlCharacters(bytes.toString('utf8')).split(/[\r\n]+/)
  const shown = lines.map(line => line.replaceAll(/[\p{Cc}\p{Cf}\p{Zs}\uFFFD]+/gu, ' ').trim())
  const last = shown.findLast(line => line !== '')
  return last === undefined ? null : Array.from(redact(last)).slice(0, MAX_LINE).join('')
}
