/** A unified patch as `git diff` writes it, taken apart for reading. It is never applied: what is odd in it is shown as it is. */

export interface DiffLine {
  readonly kind: 'context' | 'added' | 'removed' | 'note'
  /** Line numbers before and after; null on the side where it is not. */
  readonly before: number | null
  readonly after: number | null
  readonly text: string
}

export interface Hunk {
  /** Such as `@@ -1,4 +1,6 @@ function main()`. */
  readonly header: string
  readonly lines: readonly DiffLine[]
}

export interface DiffFile {
  readonly path: string
  /** What it was called before; null when that is the same. */
  readonly from: string | null
  readonly status: 'added' | 'modified' | 'deleted' | 'renamed' | 'copied'
  readonly binary: boolean
  /** Such as `100644 → 100755`; null when it did not change. */
  readonly mode: string | null
  readonly added: number
  readonly removed: number
  readonly hunks: readonly Hunk[]
}

interface OpenFile {
  path: string
  from: string | null
  status: DiffFile['status']
  binary: boolean
  oldMode: string | null
  newMode: string | null
  added: number
  removed: number
  hunks: { header: string; lines: DiffLine[] }[]
}

/** How many lines of a hunk are still to come on each side, and their numbers. */
interface Position {
  before: number
  after: number
  leftBefore: number
  leftAfter: number
}

const HUNK = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/

export function filesOf(patch: string): DiffFile[] {
  const files: OpenFile[] = []
  const at: Position = { before: 0, after: 0, leftBefore: 0, leftAfter: 0 }
  for (const line of patch.split('\n')) {
    const file = files.at(-1)
    // The counts decide what is content: a removed line may well read `-- a/file` and look like a header.
    const isContent = (at.leftBefore > 0 || at.leftAfter > 0) && !line.startsWith('diff ')
    if (file && (isContent || line.startsWith('\\ '))) addLine(file, line, at)
    else if (line.startsWith('diff --git ')) files.push(opened(line, at))
    else if (file) readHeader(file, line, at)
  }
  return files.map(closed)
}

function opened(line: string, at: Position): OpenFile {
  at.leftBefore = 0
  at.leftAfter = 0
  const path = pathsOf(line.slice('diff --git '.length))
  return {
    path,
    from: null,
    status: 'modified',
    binary: false,
    oldMode: null,
    newMode: null,
    added: 0,
    removed: 0,
    hunks: [],
  }
}

/** `a/x b/x`: without a rename, which says so itself, both are the same, and a space in them is not quoted. */
function pathsOf(names: string): string {
  const quoted = names.match(/ ("b\/(?:[^"\\]|\\.)*")$/)?.[1]
  if (quoted) return unquoted(quoted).slice(2)
  const half = names.slice((names.length + 1) / 2)
  return half.startsWith('b/') ? half.slice(2) : (names.split(' b/').at(-1) ?? names)
}

function readHeader(file: OpenFile, line: string, at: Position): void {
  const hunk = HUNK.exec(line)
  if (hunk) {
    file.hunks.push({ header: line, lines: [] })
    at.before = Number(hunk[1])
    at.after = Number(hunk[3])
    at.leftBefore = Number(hunk[2] ?? 1)
    at.leftAfter = Number(hunk[4] ?? 1)
    return
  }
  const value = (prefix: string) => (line.startsWith(prefix) ? line.slice(prefix.length) : null)
  if (line.startsWith('Binary files ') || line === 'GIT binary patch') file.binary = true
  const [deleted, added] = [value('deleted file mode '), value('new file mode ')]
  if (deleted !== null) file.status = 'deleted'
  if (added !== null) file.status = 'added'
  file.oldMode = value('old mode ') ?? deleted ?? file.oldMode
  file.newMode = value('new mode ') ?? added ?? file.newMode
  readNames(file, value)
}

function readNames(file: OpenFile, value: (prefix: string) => string | null): void {
  const from = value('rename from ') ?? value('copy from ')
  const to = value('rename to ') ?? value('copy to ')
  if (from !== null) {
    file.from = unquoted(from)
    file.status = value('rename from ') === null ? 'copied' : 'renamed'
  }
  if (to !== null) file.path = unquoted(to)
}

function addLine(file: OpenFile, line: string, at: Position): void {
  const lines = file.hunks.at(-1)?.lines
  if (!lines) return
  const text = line.slice(1)
  if (line.startsWith('\\')) {
    lines.push({ kind: 'note', before: null, after: null, text: text.trim() })
  } else if (line.startsWith('+')) {
    lines.push({ kind: 'added', before: null, after: at.after, text })
    file.added += 1
    at.after += 1
    at.leftAfter -= 1
  } else if (line.startsWith('-')) {
    lines.push({ kind: 'removed', before: at.before, after: null, text })
    file.removed += 1
    at.before += 1
    at.leftBefore -= 1
  } else {
    lines.push({ kind: 'context', before: at.before, after: at.after, text })
    at.before += 1
    at.after += 1
    at.leftBefore -= 1
    at.leftAfter -= 1
  }
}

function closed({ oldMode, newMode, ...file }: OpenFile): DiffFile {
  const changed = oldMode !== null && newMode !== null && oldMode !== newMode
  return { ...file, mode: changed ? `${oldMode} → ${newMode}` : null }
}

const ESCAPES: Readonly<Record<string, number>> = {
  a: 7,
  b: 8,
  t: 9,
  n: 10,
  v: 11,
  f: 12,
  r: 13,
  '"': 34,
  '\\': 92,
}

/** A path as git quotes it when it holds odd bytes: in `"`, with `\t`, `\"` and octal bytes of UTF-8. */
function unquoted(path: string): string {
  if (!path.startsWith('"')) return path
  const encoder = new TextEncoder()
  const parts = path.slice(1, -1).match(/\\[0-7]{3}|\\.|[^\\]+/gs) ?? []
  const bytes = parts.flatMap(part => {
    if (!part.startsWith('\\')) return [...encoder.encode(part)]
    const code = part.slice(1)
    return [ESCAPES[code] ?? Number.parseInt(code, 8)]
  })
  return new TextDecoder().decode(Uint8Array.from(bytes))
}
