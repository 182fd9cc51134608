import { unquotePath } from './quote.js'

/** `attr`, `-attr`, `attr=value`; null is `!attr`, which takes back what other lines say. */
export type AttributeValue = true | false | null | string

export interface Assignment {
  readonly name: string
  readonly value: AttributeValue
}

/** One line of an attributes file. */
export interface AttributeLine {
  readonly pattern: string
  readonly assignments: readonly Assignment[]
}

export interface AttributeFile {
  /** In the order of the file: later lines win. */
  readonly lines: readonly AttributeLine[]
  /** What `[attr]name …` lines stand for. */
  readonly macros: ReadonlyMap<string, readonly Assignment[]>
}

/** git passes over longer lines. In bytes. */
const MAX_LINE = 2048
const MACRO = '[attr]'
const BOM = '\u00ef\u00bb\u00bf'
const NAME = /^[-._0-9A-Za-z]+$/

/**
 * Reads an attributes file as git does: a line with anything wrong in it is passed over as a whole.
 *
 * @param from git reads a file of the work tree and one of a tree a little differently: only in the former it looks for
 * a byte order mark, and a NUL ends the line in the former, the whole file in the latter
 */
export function parseAttributeFile(data: Buffer, from: 'work tree' | 'tree'): AttributeFile {
  const lines: AttributeLine[] = []
  const macros = new Map<string, readonly Assignment[]>()
  for (const text of linesOf(data.toString('latin1'), from)) {
    const line = text.length < MAX_LINE ? parseLine(text) : null
    if (!line) continue
    if (line.macro) macros.set(line.pattern, line.assignments)
    else lines.push(line)
  }
  return { lines, macros }
}

function linesOf(text: string, from: 'work tree' | 'tree'): string[] {
  if (from === 'tree') return beforeNul(text).split('\n')
  const whole = text.startsWith(BOM) ? text.slice(BOM.length) : text
  return whole.split('\n').map(line => beforeNul(line.replace(/\r$/, '')))
}

function beforeNul(text: string): string {
  const end = text.indexOf('\0')
  return end < 0 ? text : text.slice(0, end)
}

function parseLine(text: string): (AttributeLine & { readonly macro: boolean }) | null {
  const line = text.replace(/^[ \t\r]+/, '')
  if (line === '' || line.startsWith('#')) return null
  const { pattern, rest } = splitPattern(line)
  const assignments = parseAssignments(rest)
  if (!assignments) return null
  if (pattern.startsWith(MACRO) && pattern.length > MACRO.length) {
    const name = /^[ \t\r]*([^ \t\r\n]*)/.exec(pattern.slice(MACRO.length))?.[1] ?? ''
    return isName(name) ? { macro: true, pattern: name, assignments } : null
  }
  return { macro: false, pattern, assignments }
}

function splitPattern(line: string): { pattern: string; rest: string } {
  if (line.startsWith('"')) {
    try {
      const { path, rest } = unquotePath(line)
      return { pattern: path, rest }
    } catch {
      // To git too, what is no quoted name begins with a plain quote.
    }
  }
  const end = /[ \t\r]/.exec(line)?.index ?? line.length
  return { pattern: line.slice(0, end), rest: line.slice(end) }
}

/** Null when one of them is none. */
function parseAssignments(text: string): Assignment[] | null {
  const assignments: Assignment[] = []
  for (const word of text.split(/[ \t\r]+/)) {
    if (word === '') continue
    const equals = word.indexOf('=')
    const sign = word.startsWith('-') || word.startsWith('!') ? word.charAt(0) : ''
    const name = word.slice(sign.length, equals < 0 ? undefined : equals)
    if (!isName(name)) return null
    const given = equals < 0 ? true : word.slice(equals + 1)
    assignments.push({ name, value: sign === '' ? given : sign === '-' ? false : null })
  }
  return assignments
}

function isName(name: string): boolean {
  return NAME.test(name) && !name.startsWith('-')
}
