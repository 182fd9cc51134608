const ESCAPES: Readonly<Record<string, string>> = {
  '\x07': 'a',
  '\b': 'b',
  '\t': 't',
  '\n': 'n',
  '\v': 'v',
  '\f': 'f',
  '\r': 'r',
  '"': '"',
  '\\': '\\',
}
const LETTERS = new Map(Object.entries(ESCAPES).map(([byte, letter]) => [letter, byte]))

/** A path in a patch: as it is, or in quotes with escapes when it holds a byte that is not plain ASCII. */
export function quotePath(path: string): string {
  if (!/[^\x20-\x7e]|["\\]/.test(path)) return path
  const inner = path.replace(/[^\x20-\x7e]|["\\]/g, byte => {
    const letter = ESCAPES[byte]
    return `\\${letter ?? byte.charCodeAt(0).toString(8).padStart(3, '0')}`
  })
  return `"${inner}"`
}

/** The path that begins a text, and the rest after it; quoted or up to the end. */
export function unquotePath(text: string): { path: string; rest: string } {
  if (!text.startsWith('"')) return { path: text, rest: '' }
  const match = /^"((?:[^"\\]|\\[0-3][0-7]{2}|\\[abtnvfr"\\])*)"/.exec(text)
  if (!match) throw new Error('a quoted path is broken')
  const path = (match[1] ?? '').replace(/\\([0-7]{3}|.)/g, (_all, code: string) => {
    return code.length === 3 ? String.fromCharCode(Number.parseInt(code, 8)) : (LETTERS.get(code) ?? code)
  })
  return { path, rest: text.slice(match[0].length) }
}
