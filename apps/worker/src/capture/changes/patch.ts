import { createHash } from 'node:crypto'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { deflateSync } from 'node:zlib'
import type { ChangedFile } from '@agirunner/contracts'
import { quotePath } from '../../workspace/git/quote.js'
import { MODE, type Mode } from '../../workspace/git/tree.js'
import { encodeLines } from './base85.js'
import { type Change, type Entry, shown } from './change.js'
import { diffText } from './text-diff.js'

/** A change as a patch and a person see it: a file that moved unchanged is one thing, not two. */
export interface Edit extends Change {
  /** Where it was before, for a rename; else null. */
  readonly from: string | null
}

export interface PatchSummary {
  readonly files: ChangedFile[]
  readonly insertions: number
  readonly deletions: number
  readonly sizeBytes: number
  readonly sha256: string
}

/** Reads what an entry holds on either side. */
export interface Contents {
  before(entry: Entry): Buffer
  after(path: string, entry: Entry): Buffer
}

const NOTHING = '0'.repeat(40)
/** Text beyond this is written like binary: a diff of it serves nobody. In bytes. */
const MAX_TEXT_BYTES = 16 * 2 ** 20
/** How far git looks for a NUL byte before it takes a file for text. */
const BINARY_PROBE = 8000
const MAX_PATCH_BYTES = 2 ** 30

/** Pairs files that are gone with new ones of the same bytes; sorted by path, removals first. */
export function findRenames(changes: readonly Change[]): Edit[] {
  const gone = new Map<string, Change[]>()
  for (const change of changes) {
    if (change.after === null && isFile(change.before)) push(gone, change.before.oid, change)
  }
  const moved = new Set<Change>()
  const edits: Edit[] = []
  for (const change of changes) {
    if (change.before !== null || !isFile(change.after) || change.after.oid === EMPTY_BLOB) continue
    const source = take(gone.get(change.after.oid) ?? [], change.path)
    if (!source) continue
    moved.add(source).add(change)
    edits.push({ path: change.path, from: source.path, before: source.before, after: change.after })
  }
  edits.push(...changes.filter(change => !moved.has(change)).map(change => ({ ...change, from: null })))
  return edits.toSorted((a, b) => order(a) - order(b) || (a.path < b.path ? -1 : 1))
}

const EMPTY_BLOB = 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
const order = ({ after }: Edit) => (after === null ? 0 : 1)

function isFile(entry: Entry | null): entry is Entry {
  return entry !== null && (entry.mode === MODE.file || entry.mode === MODE.executable)
}

function push<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key)
  if (list) list.push(value)
  else lists.set(key, [value])
}

/** The candidate of the same name, else the first. */
function take(candidates: Change[], path: string): Change | undefined {
  const name = path.slice(path.lastIndexOf('/') + 1)
  const same = candidates.findIndex(
    candidate => candidate.path.endsWith(`/${name}`) || candidate.path === name,
  )
  return candidates.splice(Math.max(0, same), 1)[0]
}

/**
 * Writes the changes in git's own patch format, for `git apply --index --binary`, one file at a time.
 *
 * @throws Error when the patch would be larger than 1 GiB
 */
export function writePatch(edits: readonly Edit[], contents: Contents, file: string): PatchSummary {
  rmSync(file, { force: true })
  const fd = openSync(file, 'wx', 0o600)
  try {
    return new PatchWriter(fd, contents).write(edits)
  } finally {
    closeSync(fd)
  }
}

class PatchWriter {
  readonly #fd: number
  readonly #contents: Contents
  readonly #hash = createHash('sha256')
  readonly #files: ChangedFile[] = []
  #size = 0
  #insertions = 0
  #deletions = 0

  constructor(fd: number, contents: Contents) {
    this.#fd = fd
    this.#contents = contents
  }

  write(edits: readonly Edit[]): PatchSummary {
    for (const edit of edits) {
      const binary = this.#edit(edit)
      this.#files.push(summarize(edit, binary))
    }
    const sha256 = this.#hash.digest('hex')
    const [insertions, deletions, sizeBytes] = [this.#insertions, this.#deletions, this.#size]
    return { files: this.#files, insertions, deletions, sizeBytes, sha256 }
  }

  /** @returns whether it is binary */
  #edit(edit: Edit): boolean {
    const { path, from, before, after } = edit
    if (from !== null) return this.#rename(edit, from)
    if (before && after && typeOf(before.mode) !== typeOf(after.mode)) {
      // git's way: the one is deleted, the other made.
      const binary = this.#edit({ ...edit, after: null })
      return this.#edit({ ...edit, before: null }) || binary
    }
    const name = (side: string) => quotePath(`${side}/${path}`)
    this.#put(`diff --git ${name('a')} ${name('b')}\n${modeLines(before, after)}`)
    if (before?.oid === after?.oid) return false
    const same = before && after && before.mode === after.mode ? ` ${after.mode}` : ''
    this.#put(`index ${before?.oid ?? NOTHING}..${after?.oid ?? NOTHING}${same}\n`)
    return this.#body(edit)
  }

  #rename({ path, before, after }: Edit, from: string): boolean {
    this.#put(`diff --git ${quotePath(`a/${from}`)} ${quotePath(`b/${path}`)}\n${modeLines(before, after)}`)
    this.#put(`similarity index 100%\nrename from ${quotePath(from)}\nrename to ${quotePath(path)}\n`)
    return false
  }

  #body({ path, before, after }: Edit): boolean {
    const old = before ? this.#contents.before(before) : Buffer.alloc(0)
    const now = after ? this.#contents.after(path, after) : Buffer.alloc(0)
    if (isBinary(old) || isBinary(now)) {
      this.#put(`GIT binary patch\n${literal(now)}\n${literal(old)}\n`)
      return true
    }
    // An empty file that comes or goes has no lines to show.
    if (old.length === 0 && now.length === 0) return false
    const diff = diffText(old.toString('latin1'), now.toString('latin1'))
    this.#put(
      `--- ${before ? label(`a/${path}`) : '/dev/null'}\n+++ ${after ? label(`b/${path}`) : '/dev/null'}\n`,
    )
    this.#put(diff.text)
    this.#insertions += diff.insertions
    this.#deletions += diff.deletions
    return false
  }

  #put(text: string): void {
    const bytes = Buffer.from(text, 'latin1')
    this.#size += bytes.length
    if (this.#size > MAX_PATCH_BYTES) throw new Error(`the patch is larger than ${MAX_PATCH_BYTES} bytes`)
    this.#hash.update(bytes)
    for (let written = 0; written < bytes.length; ) written += writeSync(this.#fd, bytes, written)
  }
}

/** A tab ends a name that holds a space, or the space could belong to a date. */
function label(path: string): string {
  return quotePath(path) + (path.includes(' ') ? '\t' : '')
}

function modeLines(before: Entry | null, after: Entry | null): string {
  if (!before) return `new file mode ${after?.mode}\n`
  if (!after) return `deleted file mode ${before.mode}\n`
  return before.mode === after.mode ? '' : `old mode ${before.mode}\nnew mode ${after.mode}\n`
}

/** Regular file, symlink or submodule: what a patch can't turn into one another. */
function typeOf(mode: Mode): string {
  return mode.slice(0, 2)
}

function isBinary(data: Buffer): boolean {
  return data.length > MAX_TEXT_BYTES || data.subarray(0, BINARY_PROBE).includes(0)
}

function literal(data: Buffer): string {
  return `literal ${data.length}\n${encodeLines(deflateSync(data))}`
}

function summarize({ path, from, before, after }: Edit, binary: boolean): ChangedFile {
  return {
    path: `repo/${shown(path)}`,
    from: from === null ? null : `repo/${shown(from)}`,
    status: statusOf(from, before, after),
    mode: after?.mode ?? null,
    binary,
  }
}

function statusOf(from: string | null, before: Entry | null, after: Entry | null): ChangedFile['status'] {
  if (from !== null) return 'renamed'
  if (!before) return 'added'
  if (!after) return 'deleted'
  return typeOf(before.mode) === typeOf(after.mode) ? 'modified' : 'type_changed'
}
