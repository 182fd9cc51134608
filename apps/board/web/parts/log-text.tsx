import type { CSSProperties, JSX } from 'preact'
import { type Colour, paletteColour, type Segment, type Style, segmentsOf } from '../lib/ansi.js'
import { GROUNDS, legibleOn } from '../lib/colour.js'
import { occurrences } from '../lib/log-store.js'
import { memo } from './memo.js'

/** More of a line than this is not drawn, in UTF-16 units. */
const MOST = 8192

interface LogTextProps {
  readonly raw: string
  readonly style: Style
  readonly query: string
}

/** A line of a log as a terminal shows it. Everything in it is text: nothing is ever read as HTML. */
export const LogText = memo(({ raw, style, query }: LogTextProps) => {
  const { segments } = segmentsOf(raw, style)
  const text = segments.map(segment => segment.text).join('')
  const found = occurrences(text.slice(0, MOST), query)
  let at = 0
  const pieces = segments.flatMap(segment => {
    const cut = pieceOf(segment, at, found, query.length)
    at += segment.text.length
    return cut
  })
  return (
    <code>
      {pieces}
      {text.length > MOST && <em> … {text.length - MOST} more characters</em>}
    </code>
  )
})

/** A segment cut where a match begins or ends. */
function pieceOf(
  { text, style }: Segment,
  at: number,
  found: readonly number[],
  length: number,
): JSX.Element[] {
  const end = Math.min(at + text.length, MOST)
  const edges = new Set([at, end])
  for (const start of found) {
    if (start > at && start < end) edges.add(start)
    if (start + length > at && start + length < end) edges.add(start + length)
  }
  const sorted = [...edges].filter(edge => edge <= end).sort((one, other) => one - other)
  return sorted.slice(0, -1).map((from, index) => {
    const piece = text.slice(from - at, (sorted[index + 1] ?? end) - at)
    const isMatch = found.some(start => from >= start && from < start + length)
    const Tag = isMatch ? 'mark' : 'span'
    return (
      <Tag key={from} class={classOf(style)} style={coloursOf(style)}>
        {piece}
      </Tag>
    )
  })
}

function classOf({ bold, dim, italic, underline, fg, bg, inverse }: Style): string | undefined {
  const [front, back] = inverse ? [bg, fg] : [fg, bg]
  const names = [
    bold && 'b',
    dim && 'd',
    italic && 'i',
    underline && 'u',
    isThemed(front) && `f${front}`,
    isThemed(back) && `g${back}`,
    inverse && front === null && 'fi',
    inverse && back === null && 'gi',
  ].filter(Boolean)
  return names.length > 0 ? names.join(' ') : undefined
}

const isThemed = (colour: Colour): boolean => typeof colour === 'number' && colour < 16

function coloursOf({ fg, bg, inverse }: Style): CSSProperties | undefined {
  const [front, back] = inverse ? [bg, fg] : [fg, bg]
  const [color, backgroundColor] = [ownColour(front), ownColour(back)]
  if (backgroundColor !== undefined)
    return { backgroundColor, color: legibleOn(backgroundColor, color ?? '#808080') }
  if (color === undefined) return undefined
  if (back !== null || inverse) return { color: legibleOn(GROUNDS.coloured, color) }
  return { color: `light-dark(${legibleOn(GROUNDS.light, color)}, ${legibleOn(GROUNDS.dark, color)})` }
}

function ownColour(colour: Colour): string | undefined {
  if (colour === null || isThemed(colour)) return undefined
  return typeof colour === 'number' ? paletteColour(colour) : colour
}
