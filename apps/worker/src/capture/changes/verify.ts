import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { inflateSync } from 'node:zlib'
import { hashObject } from '../../workspace/git/objects.js'
import { unquotePath } from '../../workspace/git/quote.js'
import { MODE, type Mode } from '../../workspace/git/tree.js'
import { type BaseTree, treeAfter } from './base-tree.js'
import { decodeLine } from './base85.js'
import type { Entry } from './change.js'

/**
 * Applies a patch to the base commit, in memory and without any of the code that wrote it.
 *
 * @returns the id of the tree that it gives
 * @throws Error when it does not apply exactly
 */
export function treeOfPatch(file: string, base: BaseTree): string {
  const lines = new Lines(file)
  try {
    const applied = new Map<string, Entry | null>()
    while (!lines.ended) {
      for (const [path, entry] of applySection(lines, base)) {
        // Deleted and made anew under the same name: what is made wins.
        if (entry !== null || !applied.has(path)) applied.set(path, entry)
      }
    }
    return treeAfter(base, applied)
  } finally {
    lines.close()
  }
}

interface Header {
  from: string | null
  to: string | null
  /** Of the pre-image, as the patch says. */
  oldMode: Mode | null
  newMode: Mode | null
  oldOid: string | null
  newOid: string | null
  readonly first: string
}

/** One file of the patch. */
function applySection(lines: Lines, base: BaseTree): [string, Entry | null][] {
  const header = readHeader(lines)
  const { from, to } = pathsOf(header)
  const before = from === null ? null : base.find(from)
  if (from !== null && !before) throw new Error(`the patch changes ${from}, which is not in the base`)
  if (header.oldMode && before?.mode !== header.oldMode)
    throw new Error(`the patch is wrong about the mode of ${from}`)
  if (header.oldOid && (before?.oid ?? ZERO) !== header.oldOid)
    throw new Error(`the patch is wrong about ${from}`)
  const old = () => (before ? base.content(before) : Buffer.alloc(0))
  const content = applyBody(lines, old)
  const results: [string, Entry | null][] = from !== null && from !== to ? [[from, null]] : []
  if (to === null) {
    if (content !== null && content.length > 0) throw new Error(`the patch leaves something of ${from}`)
    return results
  }
  const mode = header.newMode ?? before?.mode
  const oid = content
    ? hashObject('blob', content)
    : before
      ? before.oid
      : hashObject('blob', Buffer.alloc(0))
  if (header.newOid && oid !== header.newOid)
    throw new Error(`the patch does not give what it says for ${to}`)
  if (!mode || mode === MODE.gitlink) throw new Error(`the patch has no mode for ${to}`)
  return [...results, [to, { mode, oid }]]
}

const ZERO = '0'.repeat(40)

function readHeader(lines: Lines): Header {
  const first = lines.take()
  if (!first.startsWith('diff --git ')) throw new Error('a section of the patch has no beginning')
  const header: Header = {
    first,
    from: null,
    to: null,
    oldMode: null,
    newMode: null,
    oldOid: null,
    newOid: null,
  }
  let [isNew, isDeleted] = [false, false]
  for (;;) {
    const [, key = '', value = ''] =
      /^(old mode|new mode|deleted file mode|new file mode|similarity index|rename from|rename to|index) (.*)$/s.exec(
        lines.peek(),
      ) ?? []
    if (key === '') break
    lines.take()
    if (key === 'old mode' || key === 'deleted file mode') header.oldMode = value as Mode
    if (key === 'new mode' || key === 'new file mode') header.newMode = value as Mode
    if (key === 'rename from') header.from = unquotePath(value).path
    if (key === 'rename to') header.to = unquotePath(value).path
    if (key === 'index') [header.oldOid, header.newOid] = readIndex(value, header)
    isNew ||= key === 'new file mode'
    isDeleted ||= key === 'deleted file mode'
  }
  const path = header.from === null ? sharedPath(first) : null
  header.from ??= isNew ? null : path
  header.to ??= isDeleted ? null : path
  return header
}

function readIndex(value: string, header: Header): [string, string] {
  const match = /^([0-9a-f]{40})\.\.([0-9a-f]{40})(?: (\d{6}))?$/.exec(value)
  if (!match) throw new Error('an index line is broken')
  if (match[3] !== undefined) header.oldMode = match[3] as Mode
  return [match[1] ?? '', match[2] ?? '']
}

function pathsOf({ from, to }: Header): { from: string | null; to: string | null } {
  for (const path of [from, to]) {
    const bad = path
      ?.split('/')
      .some(part => part === '' || part === '.' || part === '..' || /^\.git$/i.test(part))
    if (bad) throw new Error('the patch names a path that may not be')
  }
  return { from, to }
}

/** `diff --git a/X b/X`: both are the same path, so the middle is known although spaces are not quoted. */
function sharedPath(line: string): string {
  const text = line.slice('diff --git '.length)
  if (text.startsWith('"')) {
    const first = unquotePath(text)
    return first.path.slice(2)
  }
  return text.slice(2, (text.length - 1) / 2)
}

/** @returns the post-image, null when there are no hunks */
function applyBody(lines: Lines, old: () => Buffer): Buffer | null {
  if (lines.peek() === 'GIT binary patch') return applyBinary(lines, old)
  if (!lines.peek().startsWith('--- ')) return null
  lines.take()
  if (!lines.take().startsWith('+++ ')) throw new Error('a section names one side only')
  return applyHunks(lines, old())
}

function applyBinary(lines: Lines, old: () => Buffer): Buffer {
  lines.take()
  const forward = readLiteral(lines)
  const reverse = readLiteral(lines)
  if (!reverse.equals(old())) throw new Error('a binary section is wrong about what was there')
  return forward
}

function readLiteral(lines: Lines): Buffer {
  const size = Number(/^literal (\d+)$/.exec(lines.take())?.[1] ?? Number.NaN)
  const parts: Buffer[] = []
  for (let line = lines.take(); line !== ''; line = lines.take()) parts.push(decodeLine(line))
  const data = inflateSync(Buffer.concat(parts), { maxOutputLength: Math.max(1, size) })
  if (data.length !== size) throw new Error('a binary section is not as long as it says')
  return data
}

/** Applies hunks exactly where they say, with every line of context as it is there. */
function applyHunks(lines: Lines, old: Buffer): Buffer {
  const source = new Source(old)
  const result: Buffer[] = []
  for (;;) {
    const match = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(lines.peek())
    if (!match) break
    lines.take()
    let [olds, news] = [Number(match[2] ?? 1), Number(match[4] ?? 1)]
    result.push(source.until(Number(match[1]) - (olds === 0 ? 0 : 1)))
    while (olds > 0 || news > 0) {
      const line = lines.take()
      const mark = line.charAt(0)
      const ended = lines.peek() === '\\ No newline at end of file'
      if (ended) lines.take()
      const text = Buffer.from(ended ? line.slice(1) : `${line.slice(1)}\n`, 'latin1')
      if (mark !== '+' && !source.line().equals(text)) throw new Error('a hunk is wrong about what was there')
      if (mark !== '-') result.push(text)
      if (mark !== '+') olds -= 1
      if (mark !== '-') news -= 1
      if (!' +-'.includes(mark) || olds < 0 || news < 0) throw new Error('a hunk is broken')
    }
  }
  result.push(source.rest())
  return Buffer.concat(result)
}

/** The pre-image, read line by line. */
class Source {
  readonly #data: Buffer
  #at = 0
  #line = 0

  constructor(data: Buffer) {
    this.#data = data
  }

  /** Everything up to the end of line `line`. */
  until(line: number): Buffer {
    const start = this.#at
    if (line < this.#line) throw new Error('hunks overlap')
    while (this.#line < line) this.line()
    return this.#data.subarray(start, this.#at)
  }

  line(): Buffer {
    if (this.#at >= this.#data.length) throw new Error('a hunk reaches beyond the end')
    const start = this.#at
    const end = this.#data.indexOf(10, start)
    this.#at = end < 0 ? this.#data.length : end + 1
    this.#line += 1
    return this.#data.subarray(start, this.#at)
  }

  rest(): Buffer {
    return this.#data.subarray(this.#at)
  }
}

/** The lines of a file without their newlines, as latin1, read piece by piece. */
class Lines {
  readonly #fd: number
  readonly #size: number
  #read = 0
  #buffer = Buffer.alloc(0)
  #next: string | null = null

  constructor(file: string) {
    this.#fd = openSync(file, 'r')
    this.#size = fstatSync(this.#fd).size
  }

  get ended(): boolean {
    return this.#next === null && this.#buffer.length === 0 && this.#read >= this.#size
  }

  /** The next line without taking it; '' at the end. */
  peek(): string {
    if (this.#next === null && !this.ended) this.#next = this.#pull()
    return this.#next ?? ''
  }

  /** @throws Error at the end */
  take(): string {
    if (this.ended) throw new Error('the patch ends too early')
    const line = this.peek()
    this.#next = null
    return line
  }

  close(): void {
    closeSync(this.#fd)
  }

  #pull(): string {
    let end = this.#buffer.indexOf(10)
    const chunks = [this.#buffer]
    let length = this.#buffer.length
    while (end < 0 && this.#read < this.#size) {
      const chunk = Buffer.allocUnsafe(64 * 1024)
      const count = readSync(this.#fd, chunk, 0, chunk.length, this.#read)
      if (count === 0) break
      this.#read += count
      const part = chunk.subarray(0, count)
      const found = part.indexOf(10)
      if (found >= 0) end = length + found
      chunks.push(part)
      length += count
    }
    const all = chunks.length === 1 ? this.#buffer : Buffer.concat(chunks)
    const stop = end < 0 ? all.length : end
    this.#buffer = all.subarray(stop + 1)
    return all.toString('latin1', 0, stop)
  }
}
