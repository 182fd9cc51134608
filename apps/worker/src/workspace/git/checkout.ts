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
import { TaskFailure } from '@agirunner/contracts'
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
const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants

/**
 * Writes a tree to the disk, each file once and only into folders that it made itself: nothing of the repository can
 * lead a write elsewhere. Bytes are written as they lie.
 *
 * @throws TaskFailure `workspace.unsafe_tree`, `workspace.too_large`
 */
export function checkOut(tree: string, options: CheckoutOptions): CheckedOut {
  return new Checkout(options).run(tree)
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
    const pending = [{ oid: tree, path: '' }]
    for (let folder = pending.pop(); folder; folder = pending.pop()) {
      this.#trees.set(folder.path, folder.oid)
      const prefix = folder.path === '' ? '' : `${folder.path}/`
      for (const entry of this.#read(folder.oid, prefix)) {
        if (entry.mode === MODE.tree) pending.push({ oid: entry.oid, path: prefix + entry.name })
        this.#write(entry, prefix + entry.name)
      }
    }
    this.#options.progress({ files: this.#entries.length, bytes: this.#bytes })
    const notFetched = { submodules: this.#submodules, lfs: this.#lfs }
    return { entries: this.#entries, trees: this.#trees, notFetched }
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
      throw new TaskFailure(
        'workspace.too_large',
        `the repository holds more than ${this.#options.maxFiles} files`,
      )
    }
    return entries.toSorted((a, b) => compareNames(a.name, b.name))
  }

  #write({ mode, oid }: TreeEntry, path: string): void {
    const target = Buffer.from(`${this.#options.root}/`).toString('latin1') + path
    const at = Buffer.from(target, 'latin1')
    if (mode === MODE.tree) this.#makeFolder(at)
    else if (mode === MODE.symlink) this.#link(at, path, oid)
    else if (mode !== MODE.gitlink) this.#file(at, path, oid, mode)
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

  #file(at: Buffer, path: string, oid: string, mode: typeof MODE.file | typeof MODE.executable): void {
    const { data } = this.#options.store.read(oid, 'blob')
    if (data.length < LFS_MAX_BYTES && data.toString('latin1', 0, LFS_START.length) === LFS_START) {
      this.#lfs.push(shown(path))
    }
    this.#bytes += data.length
    if (this.#bytes > this.#options.maxBytes) {
      throw new TaskFailure(
        'workspace.too_large',
        `the repository's files are larger than ${this.#options.maxBytes} bytes`,
      )
    }
    const fd = openSync(at, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
    try {
      for (let written = 0; written < data.length; ) written += writeSync(fd, data, written)
      // The mode is set once it is whole, and exactly: the umask has no say.
      fchmodSync(fd, mode === MODE.executable ? 0o755 : 0o644)
      const { owner } = this.#options
      if (owner) fchownSync(fd, owner.uid, owner.gid)
      futimesSync(fd, this.#time, this.#time)
    } finally {
      closeSync(fd)
    }
    this.#note({ path, mode, oid, size: data.length, time: this.#time })
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

function unsafe(path: string, why: string): TaskFailure {
  return new TaskFailure(
    'workspace.unsafe_tree',
    `the repository's path ${JSON.stringify(shown(path.slice(0, MAX_SHOWN)))} ${why}`,
  )
}
