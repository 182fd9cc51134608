/** One byte, or the set of bytes that a place takes, or one of the marks below. */
type Token = number | Uint8Array

/** Any bytes but a slash. */
const STAR = -1
/** Any bytes. */
const ANY = -2
/** Together with the ANY and the slash after it, it may be skipped: `**` between slashes stands for no folder too. */
const FOLDERS = -3
/** Matches nothing. */
const NEVER: Uint8Array = new Uint8Array(256)

const SLASH = 0x2f
const CLASSES: ReadonlyMap<string, RegExp> = new Map([
  ['alnum', /[0-9A-Za-z]/],
  ['alpha', /[A-Za-z]/],
  ['blank', /[ \t]/],
  ['cntrl', /[^ -~\x80-\xff]/],
  ['digit', /[0-9]/],
  ['graph', /[\x21-\x7e]/],
  ['lower', /[a-z]/],
  ['print', /[\x20-\x7e]/],
  ['punct', /[!-/:-@[-`{-~]/],
  ['space', /[ \t\n\r]/],
  ['upper', /[A-Z]/],
  ['xdigit', /[0-9A-Fa-f]/],
])

/** How much matching may cost in all; one unit is about a nanosecond. */
export class Effort {
  #left: number

  constructor(units: number) {
    this.#left = units
  }

  /** @throws EffortError when nothing is left */
  spend(units: number): void {
    this.#left -= units
    if (this.#left < 0) throw new EffortError('patterns of .gitattributes cost too much to match')
  }
}

export class EffortError extends Error {}

/**
 * A pattern of git's (wildmatch), matched in time proportional to pattern × text, whatever the pattern: its author may
 * be hostile, and git's own way tries every split of `*a*a*a*b`. Bytes are held as latin1 strings.
 */
export class Glob {
  readonly #tokens: readonly Token[]

  /** @param pattern of a path, or of what is left of one behind a literal beginning */
  constructor(pattern: string) {
    this.#tokens = parse(pattern)
  }

  /** @throws EffortError */
  matches(text: string, effort: Effort): boolean {
    const tokens = this.#tokens
    effort.spend((text.length + 1) * (tokens.length + 1))
    let states = new Uint8Array(tokens.length + 1)
    let next = new Uint8Array(tokens.length + 1)
    states[0] = 1
    for (let at = 0; at < text.length; at += 1) {
      skip(tokens, states)
      if (!step(tokens, states, next, text.charCodeAt(at))) return false
      const done = states
      states = next
      next = done.fill(0)
    }
    skip(tokens, states)
    return states[tokens.length] === 1
  }
}

/** Goes on to what follows a token that may stand for nothing. Only forward, so once through is enough. */
function skip(tokens: readonly Token[], states: Uint8Array): void {
  for (const [at, token] of tokens.entries()) {
    if (states[at] !== 1 || typeof token !== 'number' || token >= 0) continue
    states[at + 1] = 1
    if (token === FOLDERS) states[at + 3] = 1
  }
}

/** @returns whether anything can still match */
function step(tokens: readonly Token[], states: Uint8Array, next: Uint8Array, byte: number): boolean {
  let alive = false
  for (const [at, token] of tokens.entries()) {
    if (states[at] !== 1) continue
    const stays = token === ANY || (token === STAR && byte !== SLASH)
    const goes = typeof token === 'number' ? token === byte : token[byte] === 1
    if (stays) next[at] = 1
    if (goes) next[at + 1] = 1
    alive ||= stays || goes
  }
  return alive
}

function parse(pattern: string): Token[] {
  const tokens: Token[] = []
  for (let at = 0; at < pattern.length; ) {
    const char = pattern.charAt(at)
    if (char === '*') at = parseStars(pattern, at, tokens)
    else if (char === '[') {
      const set = parseSet(pattern, at)
      tokens.push(set.bytes)
      at = set.end
    } else {
      const escaped = char === '\\'
      if (char === '?') tokens.push(bytes(byte => byte !== SLASH))
      else if (escaped && at + 1 === pattern.length) tokens.push(NEVER)
      else tokens.push(pattern.charCodeAt(escaped ? at + 1 : at))
      at += escaped ? 2 : 1
    }
  }
  return tokens
}

/** Two or more stars go through folders only where they stand between slashes or at an end. */
function parseStars(pattern: string, start: number, tokens: Token[]): number {
  let end = start
  while (pattern.charAt(end) === '*') end += 1
  const behind = start === 0 || pattern.charAt(start - 1) === '/'
  const before = end === pattern.length || /^\\?\//.test(pattern.slice(end, end + 2))
  if (end - start === 1 || !behind || !before) tokens.push(STAR)
  else if (pattern.charAt(end) === '/') tokens.push(FOLDERS, ANY)
  else tokens.push(ANY)
  return end
}

/** `[a-c]`, `[!\]]`, `[[:digit:]_]`: never a slash. One that does not end, or names no class, matches nothing. */
function parseSet(pattern: string, start: number): { bytes: Uint8Array; end: number } {
  const nothing = { bytes: NEVER, end: pattern.length }
  const negated = /[!^]/.test(pattern.charAt(start + 1))
  const taken = new Uint8Array(256)
  const first = start + (negated ? 2 : 1)
  let last: number | null = null
  for (let at = first; at < pattern.length; ) {
    if (pattern.charAt(at) === ']' && at > first) {
      return {
        bytes: bytes(byte => byte !== SLASH && (taken[byte] === 1) !== negated),
        end: at + 1,
      }
    }
    const named = /^\[:([^\]]*):\]/.exec(pattern.slice(at))?.[1]
    if (named !== undefined) {
      const members = CLASSES.get(named)
      if (!members) return nothing
      for (let byte = 0; byte < 256; byte += 1) if (members.test(String.fromCharCode(byte))) taken[byte] = 1
      at += named.length + 4
      last = null
      continue
    }
    const isRange: boolean =
      pattern.charAt(at) === '-' && last !== null && !['', ']'].includes(pattern.charAt(at + 1))
    if (isRange) at += 1
    if (pattern.charAt(at) === '\\') at += 1
    if (at >= pattern.length) return nothing
    const byte = pattern.charCodeAt(at)
    taken.fill(1, isRange ? (last ?? byte) : byte, byte + 1)
    last = isRange ? null : byte
    at += 1
  }
  return nothing
}

function bytes(takes: (byte: number) => boolean): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => (takes(byte) ? 1 : 0))
}
