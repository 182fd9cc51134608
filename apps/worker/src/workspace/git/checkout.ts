import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  futimesSync,
  lchownSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { TaskFailure } from '@agirunner/contracts/failure'
import { ATTRIBUTES_FILE, Attributes, MAX_ATTRIBUTES_BYTES } from './attributes.js'
import { toWorkTree } from './conversion.js'
import { Effort, EffortError } from './glob.js'
import type { IndexEntry } from './index-file.js'
import type { ObjectStore } from './objects.js'
import { compareNames, MODE, parseTree, type TreeEntry, unsafeEntry } from './tree.js'

export interface CheckoutOptions {
  readonly store: ObjectStore
  /** An empty folder that nobody else can write to. */
  readonly root: string
  /** Null where the worker may not give files away. */
  readonly owner: { readonly uid: number; readonly gid: number } | null
  readonly maxFiles: number
  readonly maxBytes: number
  readonly progress: (done: { files: number; bytes: number }) => void
}

/** What was written: the entries of git's index, in no order, and for each folder its tree. */
export interface CheckedOut {
  readonly entries: IndexEntry[]
  readonly trees: ReadonlyMap<string, string>
  readonly notFetched: NotFetched
}

/** What a commit only names and a plain clone does not bring. Paths as they are shown. */
export interface NotFetched {
  readonly submodules: readonly string[]
  /** Files that are git-LFS pointers. */
  readonly lfs: readonly string[]
}

/** Room for a mount point above it: PATH_MAX is 4096. */
const MAX_PATH = 3900
/** A pointer of git-LFS is a text this short that starts so (its specification, version 1). */
const LFS_MAX_BYTES = 1024
const LFS_START = 'version https://git-lfs.github.com/spec/'
/** For the patterns of all attributes files together; a repository of a million files and 200 patterns takes a fifth. */
const MAX_EFFORT = 2e10
const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants

/**
 * Writes a tree to the disk, each file once and only into folders that it made itself: nothing of the repository can
 * lead a write elsewhere. Line ends, `$Id$` and UTF-16 are as git's built-in attributes of the tree itself say, for a
 * git without configuration of its own; filters and other encodings are not applied.
 *
 * @throws TaskFailure `workspace.unsafe_tree`, `workspace.too_large`
 */
export function checkOut(tree: string, options: CheckoutOptions): CheckedOut {
  return new Checkout(options).run(tree)
}

interface Folder {
  readonly oid: string
  readonly path: string
  /** Those of the folders above; null above the root. */
  readonly above: Attributes | null
}

class Checkout {
  readonly #options: CheckoutOptions
  readonly #entries: IndexEntry[] = []
  readonly #trees = new Map<string, string>()
  readonly #submodules: string[] = []
  readonly #lfs: string[] = []
  /** Before the index is written, so that git need not look into files that may have changed since (racy git). */
  readonly #time = Math.floor(Date.now() / 1000) - 10
  #bytes = 0

  constructor(options: CheckoutOptions) {
    this.#options = options
  }

  run(tree: string): CheckedOut {
    const pending: Folder[] = [{ oid: tree, path: '', above: null }]
    for (let folder = pending.pop(); folder; folder = pending.pop()) {
      this.#trees.set(folder.path, folder.oid)
      const prefix = folder.path === '' ? '' : `${folder.path}/`
      const entries = this.#read(folder.oid, prefix)
      const attributes = this.#attributes(folder, prefix, entries)
      for (const entry of entries) {
        const path = prefix + entry.name
        if (entry.mode === MODE.tree) pending.push({ oid: entry.oid, path, above: attributes })
        this.#write(entry, path, attributes)
      }
    }
    this.#options.progress({ files: this.#entries.length, bytes: this.#bytes })
    const notFetched = { submodules: this.#submodules, lfs: this.#lfs }
    return { entries: this.#entries, trees: this.#trees, notFetched }
  }

  /** A link of that name is no attributes file. */
  #attributes({ above }: Folder, prefix: string, entries: readonly TreeEntry[]): Attributes {
    const entry = entries.find(({ name }) => name === ATTRIBUTES_FILE)
    const isFile = entry?.mode === MODE.file || entry?.mode === MODE.executable
    const file = isFile ? this.#options.store.read(entry.oid, 'blob').data : null
    if (file && file.length > MAX_ATTRIBUTES_BYTES) {
      const what = shownPath(prefix + ATTRIBUTES_FILE)
      throw tooLarge(`the repository's ${what} is larger than ${MAX_ATTRIBUTES_BYTES} bytes`)
    }
    return above?.below(prefix, file) ?? Attributes.root(file, null, 'tree', new Effort(MAX_EFFORT))
  }

  #read(oid: string, prefix: string): TreeEntry[] {
    const entries = parseTree(this.#options.store.read(oid, 'tree').data)
    const names = new Set<string>()
    for (const entry of entries) {
      const path = prefix + entry.name
      const why = unsafeEntry(entry) ?? (names.has(entry.name) ? 'is there twice' : null)
      if (why) throw unsafe(path, why)
      if (path.length > MAX_PATH) throw unsafe(path, `is longer than ${MAX_PATH} bytes`)
      names.add(entry.name)
    }
    if (this.#entries.length + this.#trees.size + entries.length > this.#options.maxFiles) {
      throw tooLarge(`the repository holds more than ${this.#options.maxFiles} files`)
    }
    return entries.toSorted((a, b) => compareNames(a.name, b.name))
  }

  #write({ mode, oid }: TreeEntry, path: string, attributes: Attributes): void {
    const target = Buffer.from(`${this.#options.root}/`).toString('latin1') + path
    const at = Buffer.from(target, 'latin1')
    if (mode === MODE.tree) this.#makeFolder(at)
    else if (mode === MODE.symlink) this.#link(at, path, oid)
    else if (mode !== MODE.gitlink) this.#file(at, { path, oid, mode }, attributes)
    else {
      this.#makeFolder(at)
      this.#submodules.push(shown(path))
      this.#note({ path, mode, oid, size: 0, time: this.#time })
    }
  }

  #makeFolder(at: Buffer): void {
    mkdirSync(at, { mode: 0o755 })
    const { owner } = this.#options
    if (owner) lchownSync(at, owner.uid, owner.gid)
  }

  #link(at: Buffer, path: string, oid: string): void {
    const target = this.#options.store.read(oid, 'blob').data
    if (target.length === 0 || target.length > MAX_PATH || target.includes(0))
      throw unsafe(path, 'is no valid symlink')
    symlinkSync(target, at)
    const { owner } = this.#options
    if (owner) lchownSync(at, owner.uid, owner.gid)
    lutimesSync(at, this.#time, this.#time)
    this.#note({ path, mode: MODE.symlink, oid, size: target.length, time: this.#time })
  }

  #file(at: Buffer, { path, oid, mode }: Omit<IndexEntry, 'size' | 'time'>, attributes: Attributes): void {
    const { data } = this.#options.store.read(oid, 'blob')
    if (data.length < LFS_MAX_BYTES && data.toString('latin1', 0, LFS_START.length) === LFS_START) {
      this.#lfs.push(shown(path))
    }
    const pieces = toWorkTree(data, oid, conversionOf(attributes, path))
    const fd = openSync(at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
    let size = 0
    try {
      for (const piece of pieces) {
        this.#count(piece.length)
        for (let written = 0; written < piece.length; ) written += writeSync(fd, piece, written)
        size += piece.length
      }
      // The mode is set once it is whole, and exactly: the umask has no say.
      fchmodSync(fd, mode === MODE.executable ? 0o755 : 0o644)
      const { owner } = this.#options
      if (owner) fchownSync(fd, owner.uid, owner.gid)
      futimesSync(fd, this.#time, this.#time)
    } finally {
      closeSync(fd)
    }
    this.#note({ path, mode, oid, size, time: this.#time })
  }

  /** Before they are written: what is written may be far larger than what was fetched. */
  #count(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes > this.#options.maxBytes)
      throw tooLarge(`the repository's files are larger than ${this.#options.maxBytes} bytes`)
  }

  #note(entry: IndexEntry): void {
    this.#entries.push(entry)
    if (this.#entries.length % 256 === 0) {
      this.#options.progress({ files: this.#entries.length, bytes: this.#bytes })
    }
  }
}

/** Of a path that a person is shown, in bytes: it may be as long as the server likes. */
const MAX_SHOWN = 200

const shown = (path: string) => Buffer.from(path, 'latin1').toString('utf8')

function conversionOf(attributes: Attributes, path: string) {
  try {
    return attributes.conversionOf(path)
  } catch (error) {
    throw error instanceof EffortError ? tooLarge(`the repository's ${error.message}`) : error
  }
}

function unsafe(path: string, why: string): TaskFailure {
  return new TaskFailure('workspace.unsafe_tree', `the repository's path ${shownPath(path)} ${why}`)
}

function tooLarge(what: string): TaskFailure {
  return new TaskFailure('workspace.too_large', what)
}

function shownPath(path: string): string {
  return JSON.stringify(shown(path.slice(0, MAX_SHOWN)))
}
