import {
  closeSync,
  fdatasync,
  fstatSync,
  ftruncateSync,
  openSync,
  read,
  readSync,
  writev,
  writevSync,
} from 'node:fs'
import { promisify } from 'node:util'

const readFrom = promisify(read)
const writeTo = promisify(writev)
const sync = promisify(fdatasync)

/**
 * A file that is opened without leaving the thread. Node's own FileHandle can only be had through the pool of threads,
 * and a task's way to its first output has no time for a trip there.
 *
 * Every method throws once it is closed: its descriptor may be another file's by then.
 */
export class OpenFile {
  readonly #fd: number
  /** What the pool of threads still does with it. */
  readonly #pending = new Set<Promise<unknown>>()
  #closed = false

  /** @throws Error with the errno's name as its `code` */
  constructor(path: string, flags: string | number, mode?: number) {
    this.#fd = openSync(path, flags, mode)
  }

  get size(): number {
    return fstatSync(this.#open()).size
  }

  /** @returns how many bytes there were, none at the end */
  async read(into: Buffer, length: number, position: number): Promise<number> {
    return (await this.#used(readFrom(this.#open(), into, 0, length, position))).bytesRead
  }

  readSync(into: Buffer, length: number, position: number): number {
    return readSync(this.#open(), into, 0, length, position)
  }

  /** @returns how many bytes were written, which may be fewer than there are */
  async writev(pieces: readonly Buffer[], position: number): Promise<number> {
    return (await this.#used(writeTo(this.#open(), pieces, position))).bytesWritten
  }

  writevSync(pieces: readonly Buffer[], position: number): number {
    return writevSync(this.#open(), pieces, position)
  }

  truncate(size: number): void {
    ftruncateSync(this.#open(), size)
  }

  /** Resolves when the disk has it. */
  async sync(): Promise<void> {
    await this.#used(sync(this.#open()))
  }

  /** Waits for what is under way. Repeatable. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await Promise.allSettled(this.#pending)
    closeSync(this.#fd)
  }

  #open(): number {
    if (this.#closed) throw new Error('the file is closed')
    return this.#fd
  }

  async #used<T>(work: Promise<T>): Promise<T> {
    this.#pending.add(work)
    try {
      return await work
    } finally {
      this.#pending.delete(work)
    }
  }
}
