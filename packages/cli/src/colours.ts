import { stripVTControlCharacters } from 'node:util'
import pc from 'picocolors'
import type { Sink } from './output.js'

/** Colours a word that says how something is, by what it says; as it is where nobody would see the colour. */
export type Paint = (word: string) => string

const COLOURS: Readonly<Record<string, 'green' | 'yellow' | 'red' | 'dim'>> = {
  succeeded: 'green',
  running: 'green',
  starting: 'yellow',
  created: 'yellow',
  restarting: 'yellow',
  stopping: 'yellow',
  removing: 'yellow',
  paused: 'yellow',
  canceled: 'yellow',
  failed: 'red',
  timed_out: 'red',
  dead: 'red',
  ended: 'dim',
  exited: 'dim',
}

/** Colours are for terminals, and for who wants them: see no-color.org. */
export function paintFor(sink: Sink, env: Readonly<Record<string, string | undefined>> = process.env): Paint {
  if (!sink.isTerminal || env.NO_COLOR || env.TERM === 'dumb') return word => word
  const colours = pc.createColors(true)
  return word => {
    const colour = COLOURS[word.trim()]
    return colour === undefined ? word : colours[colour](word)
  }
}

/** Text of somebody else's as a terminal may show it: one line, and nothing that acts on it. */
export function harmless(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ')
}
