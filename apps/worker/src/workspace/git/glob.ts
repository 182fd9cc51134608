/** One byte, or the set of bytes that a place takes, or one of the marks below, which are negative. */
type Token = number | Uint8Array

/** Any bytes but a slash. */
const STAR = -1
/** Any bytes. */
const ANY = -2
/** Together with the ANY and the slash after it, it may be skipped: `**` between slashes stands for no folder too. */
const FOLDERS = -3
/** Takes nothing. */
const NEVER: Uint8Array = new Uint8Array(256)
const UNITS_PER_STEP = 4

const SLASH = 0x2f
const NO_SLASH = bytes(byte => byte !== SLASH)
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

/** How much matching may cost in all; one unit is a nanosecond or a few. */
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
 * be hostile, and to try every split of `*a*a*a*b` takes for ever. Bytes are held as latin1 strings.
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
    const end = tokens.length
    let now = new Uint8Array(end + 1)
    let next = new Uint8Array(end + 1)
    now[0] = 1
    // Nothing before `first` is reached any more.
    let first = 0
    for (let at = 0; at < text.length; at += 1) {
      effort.spend((end - first + 1) * UNITS_PER_STEP)
      skip(tokens, now, first)
      first = step(tokens, now, next, first, text.charCodeAt(at))
      if (first > end) return false
      const done = now
      now = next
      next = done.fill(0)
    }
    skip(tokens, now, first)
    return now[end] === 1
  }
}

// Here each step of each pattern passes; indexes are several times as fast as iterators.

/** Goes on to what follows a token that may stand for nothing. Only forward, so once through is enough. */
function skip(tokens: readonly Token[], now: Uint8Array, first: number): void {
  for (let at = first; at < tokens.length; at += 1) {
    if (now[at] !== 1) continue
    const token = tokens[at] ?? NEVER
    if (typeof token !== 'number' || token >= 0) continue
    now[at + 1] = 1
    if (token === FOLDERS) now[at + 3] = 1
  }
}

/** @returns the first that is reached now; beyond the end when none is */
function step(
  tokens: readonly Token[],
  now: Uint8Array,
  next: Uint8Array,
  first: number,
  byte: number,
): number {
  let reached = tokens.length + 1
  for (let at = tokens.length - 1; at >= first; at -= 1) {
    if (now[at] !== 1) continue
    const token = tokens[at] ?? NEVER
    if (typeof token === 'number' ? token === byte : token[byte] === 1) {
      next[at + 1] = 1
      reached = at + 1
    }
    if (token === ANY || (token === STAR && byte !== SLASH)) {
      next[at] = 1
      reached = at
    }
  }
  return reached
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
      if (char === '?') tokens.push(NO_SLASH)
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
