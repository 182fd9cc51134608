/**
 * What a terminal would show of a line of a log, as plain data: colours and weights of SGR sequences are kept, and a carriage
 * return goes back to the line's start as progress bars expect. Every other sequence (OSC with its links and titles, cursor
 * movements, device control) and every control character is dropped. A log is written by what the runtime does not trust.
 */

import { hexOf } from './colour.js'

/** An index into the palette of 256 colours, or `#rrggbb`; null is the default. */
export type Colour = number | string | null

export interface Style {
  readonly fg: Colour
  readonly bg: Colour
  readonly bold: boolean
  readonly dim: boolean
  readonly italic: boolean
  readonly underline: boolean
  readonly inverse: boolean
}

export interface Segment {
  readonly text: string
  readonly style: Style
}

export const PLAIN: Style = {
  fg: null,
  bg: null,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  inverse: false,
}

const ESC = '\u001b'
// A string sequence (OSC, DCS, SOS, PM, APC) ends with BEL or ST; one without an end takes the rest of the line with it.
// C1 controls are what ESC and a letter mean in 8 bits. Built from strings: a regex literal may not hold control characters.
const SEQUENCE = new RegExp(
  [
    '(?:\\u001b\\[|\\u009b)(?<params>[0-?]*)(?<middle>[ -/]*)(?<final>[@-~]?)',
    '(?:\\u001b[\\]PX^_]|[\\u009d\\u0090\\u0098\\u009e\\u009f])(?:[^\\u0007\\u001b\\u009c]|\\u001b(?!\\\\))*(?:\\u0007|\\u001b\\\\|\\u009c)?',
    '\\u001b[ -/]*[0-~]?',
  ].join('|'),
  'g',
)
const CONTROL = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu
const SPECIAL = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u

/** Whether it holds anything but text to show as it is. */
export const isSpecial = (raw: string): boolean => SPECIAL.test(raw)

const REWRITES = /[\r\t]|\[[0-?]*K/

/** The text alone, as it is searched and copied. */
export function plainText(raw: string): string {
  if (!isSpecial(raw)) return raw
  // To lay a line out is ten times the work, and a search looks at all of them.
  if (!REWRITES.test(raw)) return raw.replace(SEQUENCE, '').replace(CONTROL, '')
  return segmentsOf(raw)
    .segments.map(({ text }) => text)
    .join('')
}

/**
 * @param raw one line without its newline
 * @param start the style that the line before left behind
 * @returns its pieces, none of them empty, and the style that the next line starts with
 */
export function segmentsOf(raw: string, start: Style = PLAIN): { segments: Segment[]; end: Style } {
  if (!isSpecial(raw)) return { segments: raw === '' ? [] : [{ text: raw, style: start }], end: start }
  const screen = new ScreenLine()
  let style = start
  let from = 0
  for (const match of raw.matchAll(SEQUENCE)) {
    screen.write(raw.slice(from, match.index), style)
    from = match.index + match[0].length
    const { params = '', middle, final } = match.groups ?? {}
    if (final === 'm' && middle === '' && /^[\d;:]*$/.test(params)) style = withSgr(style, params)
    else if (final === 'K' && middle === '') screen.erase(params)
  }
  screen.write(raw.slice(from), style)
  return { segments: screen.segments(), end: style }
}

/** The style after a line, without the work of laying it out. */
export function styleAfter(raw: string, start: Style): Style {
  if (!raw.includes(ESC) && !raw.includes('\u009b')) return start
  let style = start
  for (const { groups } of raw.matchAll(SEQUENCE)) {
    const { params = '', middle, final } = groups ?? {}
    if (final === 'm' && middle === '' && /^[\d;:]*$/.test(params)) style = withSgr(style, params)
  }
  return style
}

/** One line of a terminal: characters by column, each with its style. */
class ScreenLine {
  readonly #characters: string[] = []
  readonly #styles: Style[] = []
  #column = 0

  write(text: string, style: Style): void {
    for (const [index, part] of text.split('\r').entries()) {
      if (index > 0) this.#column = 0
      for (const character of part.replaceAll('\t', '        ').replace(CONTROL, ''))
        this.#put(character, style)
    }
  }

  #put(character: string, style: Style): void {
    this.#characters[this.#column] = character
    this.#styles[this.#column] = style
    this.#column += 1
  }

  /** Progress bars clear what the longer line before has left. */
  erase(params: string): void {
    if (params === '1') return
    const column = params === '2' ? 0 : this.#column
    this.#characters.length = Math.min(this.#characters.length, column)
    this.#styles.length = this.#characters.length
    this.#column = this.#characters.length
  }

  segments(): Segment[] {
    const segments: { text: string; style: Style }[] = []
    for (const [column, character] of this.#characters.entries()) {
      const style = this.#styles[column] ?? PLAIN
      const last = segments.at(-1)
      if (last?.style === style) last.text += character
      else segments.push({ text: character, style })
    }
    return segments
  }
}

const FLAGS: Readonly<Record<number, Partial<Style>>> = {
  1: { bold: true },
  2: { dim: true },
  3: { italic: true },
  4: { underline: true },
  7: { inverse: true },
  21: { underline: true },
  22: { bold: false, dim: false },
  23: { italic: false },
  24: { underline: false },
  27: { inverse: false },
  39: { fg: null },
  49: { bg: null },
}

/** @param params what stands between `ESC[` and `m` */
function withSgr(style: Style, params: string): Style {
  const codes = params.split(/[;:]/).map(Number)
  let next = style
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index] ?? 0
    if (code === 38 || code === 48) {
      const { colour, used } = extended(codes.slice(index + 1))
      index += used
      if (colour !== undefined) next = { ...next, [code === 38 ? 'fg' : 'bg']: colour }
    } else next = code === 0 ? PLAIN : { ...next, ...FLAGS[code], ...basic(code) }
  }
  return next
}

function basic(code: number): Partial<Style> {
  if (code >= 30 && code <= 37) return { fg: code - 30 }
  if (code >= 40 && code <= 47) return { bg: code - 40 }
  if (code >= 90 && code <= 97) return { fg: code - 82 }
  return code >= 100 && code <= 107 ? { bg: code - 92 } : {}
}

/** What follows 38 or 48: `5;N` or `2;R;G;B`. */
function extended([kind, ...values]: readonly number[]): { colour?: Colour; used: number } {
  const isByte = (value: number | undefined): value is number =>
    value !== undefined && value >= 0 && value <= 255
  const [first] = values
  if (kind === 5) return isByte(first) ? { colour: first, used: 2 } : { used: 2 }
  if (kind !== 2) return { used: kind === undefined ? 0 : 1 }
  const rgb = values.slice(0, 3)
  if (rgb.length < 3 || !rgb.every(isByte)) return { used: 4 }
  return { colour: hexOf(rgb), used: 4 }
}

/**
 * @param colour 16 and more; the first 16 are the theme's
 * @returns `#rrggbb` of the usual palette: a cube of 6 × 6 × 6, then 24 greys
 */
export function paletteColour(colour: number): string {
  if (colour >= 232) {
    const grey = 8 + (colour - 232) * 10
    return hexOf([grey, grey, grey])
  }
  const level = (value: number) => (value === 0 ? 0 : 55 + value * 40)
  const index = colour - 16
  return hexOf([Math.floor(index / 36), Math.floor(index / 6) % 6, index % 6].map(level))
}
