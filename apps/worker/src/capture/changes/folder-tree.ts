import { createHash } from 'node:crypto'
import { closeSync, fstatSync, readSync } from 'node:fs'
import { EMPTY_TREE, hashObject, type ObjectStore } from '../../workspace/git/objects.js'
import { MAX_OBJECT_BYTES } from '../../workspace/git/repository.js'
import { isGitFolder, MODE, type Mode, serializeTree, type TreeEntry } from '../../workspace/git/tree.js'
import { type BaseObject, type BaseTree, WalkedTree } from './base-tree.js'
import { type Entry, shown } from './change.js'
import { openCommits } from './commits.js'
import { GitSides } from './git-sides.js'
import { IgnoreRules } from './ignore-rules.js'
import { readTracked } from './task-index.js'
import type { WorkTree } from './work-tree.js'

const MAX_RULES_BYTES = 2 ** 20
const CHUNK_BYTES = 2 ** 20

/**
 * The tree of a folder that was copied from the host, as `git add -A` would see it: without what its own rules ignore
 * and its own index does not hold, without `.git` and repositories inside. All of it is read here; git's objects have no part
 * in it, and of `.git` only the names in the index and the rules in `info/exclude` count.
 */
export class FolderTree extends WalkedTree implements BaseTree {
  readonly root: string
  readonly #lower: WorkTree
  readonly #commit: string | null
  readonly #trees = new Map<string, ReadonlyMap<string, TreeEntry>>([[EMPTY_TREE, new Map()]])
  /** Where a blob's bytes lie, by kind: a link and a file may hold the same bytes. */
  readonly #paths = new Map<string, string>()
  readonly #rules = new IgnoreRules()
  /** Line ends and the like as in a first `git add`: nothing is stored yet. */
  readonly #sides: GitSides
  readonly #tracked: ReturnType<typeof readTracked>
  #commits: ObjectStore | null = null

  /**
   * @param lower the copy, which nobody writes to
   * @param commit what its HEAD says
   */
  constructor(lower: WorkTree, commit: string | null) {
    super()
    this.#lower = lower
    this.#commit = commit
    this.#tracked = readTracked(lower)
    const nothing = { find: () => null, blob: () => null }
    this.#sides = new GitSides(
      lower,
      nothing,
      () => this.#tracked,
      () => undefined,
    )
    if (lower.isReached('.git/info/exclude')) this.#addRules('', '.git/info/exclude')
    this.root = this.#read('') ?? EMPTY_TREE
  }

  folder(oid: string | null): ReadonlyMap<string, TreeEntry> {
    if (oid === null) return new Map()
    const entries = this.#trees.get(oid)
    if (!entries) throw new Error(`tree ${oid} is not in the folder`)
    return entries
  }

  content({ mode, oid }: Entry): Buffer {
    const path = this.#paths.get(keyOf(mode, oid))
    if (path === undefined) throw new Error(`${oid} is not in the folder`)
    if (mode === MODE.symlink) return this.#lower.link(path)
    const data = this.#lower.read(path, MAX_OBJECT_BYTES)
    return this.#sides.isPlain(path) ? data : this.#sides.of(path, data).data
  }

  blob(oid: string): Buffer | null {
    const entry = { mode: MODE.file, oid }
    return this.#paths.has(keyOf(entry.mode, oid)) ? this.content(entry) : null
  }

  hasCommit(oid: string): boolean {
    if (oid === this.#commit) return true
    this.#commits ??= openCommits(this.#lower)
    return this.#commits.has(oid)
  }

  isAside(path: string): boolean {
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')))
    if (parent !== '' && !this.#lower.isReached(parent)) return false
    const stat = this.#lower.look(path)
    return stat !== null && !stat.isDirectory() && this.find(path) === null
  }

  *objects(): Generator<BaseObject> {
    for (const [oid, entries] of this.#trees)
      yield { type: 'tree', oid, read: () => serializeTree([...entries.values()]) }
    const told = new Set<string>()
    for (const key of this.#paths.keys()) {
      const [kind, oid = ''] = key.split(' ')
      if (told.has(oid)) continue
      told.add(oid)
      const mode = kind === 'link' ? MODE.symlink : MODE.file
      yield { type: 'blob', oid, read: () => this.content({ mode, oid }) }
    }
  }

  close(): void {
    this.#commits?.close()
  }

  /** @returns the id of a folder's tree, null when there is nothing in it that git would keep */
  #read(folder: string): string | null {
    const prefix = folder === '' ? '' : `${folder}/`
    this.#addRules(prefix, `${prefix}.gitignore`)
    this.#sides.enter(folder)
    const entries: TreeEntry[] = []
    for (const name of this.#lower.list(folder)) {
      const entry = isGitFolder(name) ? null : this.#entry(name, prefix + name)
      if (entry) entries.push(entry)
    }
    if (entries.length === 0) return null
    const oid = hashObject('tree', serializeTree(entries))
    this.#trees.set(oid, new Map(entries.map(entry => [entry.name, entry])))
    return oid
  }

  #entry(name: string, path: string): TreeEntry | null {
    const stat = this.#lower.look(path)
    if (!stat) return null
    if (stat.isDirectory()) {
      const oid = this.#isLeftOut(path) ? null : this.#read(path)
      return oid === null ? null : { mode: MODE.tree, name, oid }
    }
    if (this.#rules.ignores(path) && !this.#tracked.files.has(path)) return null
    const mode = stat.isSymbolicLink() ? MODE.symlink : stat.mode & 0o100n ? MODE.executable : MODE.file
    const oid = this.#hash(path, mode)
    this.#paths.set(keyOf(mode, oid), path)
    return { mode, name, oid }
  }

  #isLeftOut(path: string): boolean {
    if (this.#lower.look(`${path}/.git`)) return true
    return this.#rules.ignores(`${path}/`) && !this.#tracked.folders.has(path)
  }

  #hash(path: string, mode: Mode): string {
    if (mode === MODE.symlink) return hashObject('blob', this.#lower.link(path))
    if (!this.#sides.isPlain(path))
      return hashObject('blob', this.#sides.of(path, this.#lower.read(path, MAX_OBJECT_BYTES)).data)
    const file = this.#lower.open(path)
    try {
      return hashFile(file, path)
    } finally {
      closeSync(file)
    }
  }

  #addRules(prefix: string, path: string): void {
    const stat = this.#lower.look(path)
    if (!stat?.isFile() || stat.size > BigInt(MAX_RULES_BYTES)) return
    this.#rules.add(prefix, this.#lower.read(path, MAX_RULES_BYTES).toString('latin1'))
  }
}

const keyOf = (mode: Mode, oid: string) => `${mode === MODE.symlink ? 'link' : 'file'} ${oid}`

/** A blob's id, however large the file: it need not fit into memory. */
function hashFile(file: number, path: string): string {
  const { size } = fstatSync(file)
  const hash = createHash('sha1').update(`blob ${size}\0`)
  const chunk = Buffer.allocUnsafe(Math.min(size, CHUNK_BYTES))
  let done = 0
  for (let count = -1; done < size && count !== 0; done += count) {
    count = readSync(file, chunk, 0, chunk.length, done)
    hash.update(chunk.subarray(0, count))
  }
  if (done !== size) throw new Error(`${shown(path)} of the base changed while it was read`)
  return hash.digest('hex')
}
