import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
} from 'node:fs'
import type { SpecialKind } from '../../workspace/archive/unpack.js'
import { OpenFolders } from './open-folders.js'

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
const TYPE_BITS: Readonly<Record<SpecialKind, number>> = {
  fifo: constants.S_IFIFO,
  character_device: constants.S_IFCHR,
  block_device: constants.S_IFBLK,
}

/**
 * A folder that a task could write to, read so that nothing in it leads elsewhere. Paths are relative to it, their
 * bytes held as latin1 strings. Every folder on the way is opened within the one before, and never through a link: the
 * task is dead by now, but what else may write there must not lead us out either.
 */
export class WorkTree {
  readonly #folders: OpenFolders
  readonly #specials: ReadonlyMap<string, SpecialKind>
  readonly #namesOfSpecials = new Map<string, string[]>()

  /** @param specials devices and FIFOs that were there and are not on this disk; seen, but never opened */
  constructor(root: string, specials: ReadonlyMap<string, SpecialKind> = new Map()) {
    this.#folders = new OpenFolders(Buffer.from(root).toString('latin1'))
    this.#specials = specials
    for (const path of specials.keys()) {
      const slash = path.lastIndexOf('/')
      const folder = path.slice(0, Math.max(0, slash))
      this.#namesOfSpecials.set(folder, [...(this.#namesOfSpecials.get(folder) ?? []), path.slice(slash + 1)])
    }
  }

  /** Null when there is nothing. */
  look(path: string): BigIntStats | null {
    const special = this.#specials.get(path)
    if (special !== undefined) return this.#statOf(special)
    try {
      return lstatSync(this.#at(path), { bigint: true })
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return null
      throw error
    }
  }

  /** The names in a folder. */
  list(path: string): string[] {
    const folder = `/proc/self/fd/${this.#folders.folder(path)}`
    const names = readdirSync(folder, 'buffer').map(name => name.toString('latin1'))
    return [...names, ...(this.#namesOfSpecials.get(path) ?? [])]
  }

  /** The bytes of a regular file. @throws Error when it is larger than `maxBytes`, or no regular file any more */
  read(path: string, maxBytes: number): Buffer {
    const fd = this.open(path)
    try {
      const stat = fstatSync(fd)
      if (!stat.isFile()) throw new Error('it is no regular file')
      if (stat.size > maxBytes) throw new Error(`it is larger than ${maxBytes} bytes`)
      const buffer = Buffer.allocUnsafe(stat.size)
      let filled = 0
      while (filled < buffer.length) {
        const count = readSync(fd, buffer, filled, buffer.length - filled, filled)
        if (count === 0) break
        filled += count
      }
      return buffer.subarray(0, filled)
    } finally {
      closeSync(fd)
    }
  }

  /** Neither a link is followed nor a FIFO waited for. */
  open(path: string): number {
    return openSync(this.#at(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  }

  /** Where a symlink points, as it is written. */
  link(path: string): Buffer {
    return readlinkSync(this.#at(path), 'buffer')
  }

  /**
   * Whether every folder on the way to `path` is one, and no link: for paths whose folders were not walked.
   */
  isReached(path: string): boolean {
    const parts = path.split('/')
    return parts.every((_part, index) => {
      const stat = this.look(parts.slice(0, index + 1).join('/'))
      return stat !== null && (index === parts.length - 1 ? !stat.isSymbolicLink() : stat.isDirectory())
    })
  }

  #statOf(kind: SpecialKind): BigIntStats {
    const stat = fstatSync(this.#folders.folder(''), { bigint: true })
    return Object.assign(stat, { mode: BigInt(TYPE_BITS[kind]), size: 0n })
  }

  #at(path: string): Buffer {
    return path === ''
      ? Buffer.from(`/proc/self/fd/${this.#folders.folder('')}/.`)
      : this.#folders.entry(path)
  }
}
