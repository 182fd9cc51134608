import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  fstatSync,
  lchownSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  type Stats,
  symlinkSync,
  utimesSync,
} from 'node:fs'
import { TaskFailure } from '@agirunner/contracts'
import { entryOf, namesOf, openFolders } from './folders.js'

export interface CopyOptions {
  /** A folder that is not there yet, where nobody else can write. */
  readonly target: string
  /** Whose the copy shall be; null where the worker may not give files away. */
  readonly owner: { readonly uid: number; readonly gid: number } | null
  readonly maxFiles: number
  readonly maxBytes: number
  readonly progress: (done: { files: number; bytes: number }) => void
}

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, COPYFILE_EXCL, COPYFILE_FICLONE } = constants
const MAX_NOTES = 100
/** Room for a mount point above it: PATH_MAX is 4096. */
const MAX_PATH = 3900
/** Errors that say: it is not what it was when it was looked at. */
const CHANGED = ['ENOENT', 'ENOTDIR', 'ELOOP']

/**
 * Copies a folder that others may be writing to. Every file is reached from the open folder through folders alone, and
 * what was opened is what is copied: a link that takes a folder's place meanwhile leads nowhere. No link is followed, no
 * other file system entered; FIFOs, sockets and devices are neither opened nor copied. Modes and times (milliseconds) are
 * kept, set-id bits and extended attributes are not; where the file system can, blocks are shared (reflink).
 *
 * @returns notes on what was left out
 * @throws TaskFailure `workspace.too_large`, `workspace.unsafe_tree`
 */
export function copyTree(source: number, options: CopyOptions): string[] {
  return new Copy(source, options).run()
}

/** Paths are relative to the folder, their bytes held as latin1. */
class Copy {
  readonly #source: number
  readonly #options: CopyOptions
  readonly #device: number
  readonly #folders: { at: Buffer; stat: Stats }[] = []
  readonly #notes: string[] = []
  #files = 0
  #bytes = 0

  constructor(source: number, options: CopyOptions) {
    this.#source = source
    this.#options = options
    this.#device = fstatSync(source).dev
  }

  run(): string[] {
    this.#tell()
    const pending = ['']
    for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
      pending.push(...this.#copyFolder(path).toReversed())
    }
    // When nothing is written into them any more: a folder may forbid that, and its time would move.
    for (const { at, stat } of this.#folders.toReversed()) this.#finish(at, stat, 0o700)
    this.#tell()
    return this.#notes
  }

  /** @returns the folders in it */
  #copyFolder(path: string): string[] {
    const folder = this.#unlessChanged(path, () => openFolders(this.#source, namesOf(path)))
    if (folder === null) return []
    try {
      const stat = fstatSync(folder)
      const at = this.#at(path)
      mkdirSync(at, { mode: 0o700 })
      this.#folders.push({ at, stat })
      if (stat.dev !== this.#device) {
        this.#leaveOut(path, 'another file system is mounted there')
        return []
      }
      return this.#copyEntries(folder, path)
    } finally {
      closeSync(folder)
    }
  }

  #copyEntries(folder: number, path: string): string[] {
    const names = readdirSync(entryOf(folder, '.'), 'buffer').map(name => name.toString('latin1'))
    const folders: string[] = []
    for (const name of names.toSorted()) {
      const below = path === '' ? name : `${path}/${name}`
      this.#count(below)
      const stat = this.#unlessChanged(below, () => lstatSync(entryOf(folder, name)))
      if (stat?.isDirectory()) folders.push(below)
      else if (stat?.isSymbolicLink()) this.#copyLink(folder, name, below, stat)
      else if (stat?.isFile()) this.#copyFile(folder, name, below)
      else if (stat) this.#leaveOut(below, kindOf(stat))
    }
    return folders
  }

  #copyLink(folder: number, name: string, path: string, stat: Stats): void {
    const target = this.#unlessChanged(path, () => readlinkSync(entryOf(folder, name), 'buffer'))
    if (target === null) return
    const at = this.#at(path)
    symlinkSync(target, at)
    const { owner } = this.#options
    if (owner) lchownSync(at, owner.uid, owner.gid)
    lutimesSync(at, stat.mtime, stat.mtime)
  }

  #copyFile(folder: number, name: string, path: string): void {
    // O_NONBLOCK: a FIFO in its place would be waited for.
    const flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK
    const file = this.#unlessChanged(path, () => openSync(entryOf(folder, name), flags))
    if (file === null) return
    try {
      const stat = fstatSync(file)
      if (!stat.isFile()) return this.#leaveOut(path, kindOf(stat))
      this.#weigh(stat.size)
      const at = this.#at(path)
      copyFileSync(`/proc/self/fd/${file}`, at, COPYFILE_EXCL | COPYFILE_FICLONE)
      this.#finish(at, stat, 0o400)
    } finally {
      closeSync(file)
    }
  }

  /** @param least what its new owner must be able to do, as the worker could */
  #finish(at: Buffer, stat: Stats, least: number): void {
    const { owner } = this.#options
    if (owner) chownSync(at, owner.uid, owner.gid)
    chmodSync(at, (stat.mode & 0o777) | least)
    utimesSync(at, stat.mtime, stat.mtime)
  }

  #count(path: string): void {
    const { maxFiles } = this.#options
    this.#files += 1
    if (this.#files > maxFiles) throw tooLarge(`it holds more than ${maxFiles} files`)
    if (path.length > MAX_PATH) {
      throw new TaskFailure(
        'workspace.unsafe_tree',
        `the folder holds a path longer than ${MAX_PATH} bytes, ${shown(path.slice(0, 200))}…`,
      )
    }
    if (this.#files % 64 === 0) this.#tell()
  }

  #weigh(bytes: number): void {
    const { maxBytes } = this.#options
    this.#bytes += bytes
    if (this.#bytes > maxBytes) throw tooLarge(`its files are larger than ${maxBytes} bytes`)
  }

  #tell(): void {
    this.#options.progress({ files: this.#files, bytes: this.#bytes })
  }

  /** In a folder that lives, what was listed may be gone or another thing by the time it is read. */
  #unlessChanged<T>(path: string, work: () => T): T | null {
    try {
      return work()
    } catch (error) {
      if (!CHANGED.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
      this.#leaveOut(path, 'changed while it was copied')
      return null
    }
  }

  #leaveOut(path: string, why: string): void {
    if (this.#notes.length < MAX_NOTES) this.#notes.push(`repo/${shown(path)}: ${why}, left out`)
    else if (this.#notes.length === MAX_NOTES) this.#notes.push('more was left out of the copy')
  }

  #at(path: string): Buffer {
    const target = Buffer.from(this.#options.target)
    return path === '' ? target : Buffer.concat([target, Buffer.from(`/${path}`, 'latin1')])
  }
}

function tooLarge(why: string): TaskFailure {
  return new TaskFailure('workspace.too_large', `the folder of workspace.source can't be copied; ${why}`, {
    hint: 'name a smaller folder',
  })
}

function kindOf(stat: Stats): string {
  if (stat.isFIFO()) return 'a FIFO'
  return stat.isSocket() ? 'a socket' : 'a device'
}

const shown = (path: string) => Buffer.from(path, 'latin1').toString('utf8')
