import { fstatSync, readSync } from 'node:fs'
import { constants, type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { LogEntry } from '@agirunner/contracts'

export type StreamName = LogEntry['stream']
export const STREAMS: readonly StreamName[] = ['stdout', 'stderr']

/** A run of bytes of one stream: where it begins in it, and where it ends. */
export interface LogRange {
  readonly stream: StreamName
  readonly from: number
  readonly to: number
}

/**
 * So little of what was just written is in memory, and is read or written in less time than a trip through the pool of
 * threads takes.
 */
export const AT_ONCE_BYTES = 8192

const NAMES: Readonly<Record<StreamName, string>> = { stdout: 'o', stderr: 'e' }

/**
 * The two files that a container's output goes to. They are opened before the task runs, so what it does to their names
 * is of no matter; and they are read at any place for as long as they are open, so nothing of them need be kept.
 */
export class LogFiles {
  readonly #files: Readonly<Record<StreamName, FileHandle>>

  /** @param folder the slot's log folder */
  static async open(folder: string): Promise<LogFiles> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW
    const opening = STREAMS.map(stream => open(join(folder, NAMES[stream]), flags))
    try {
      const [stdout, stderr] = (await Promise.all(opening)) as [FileHandle, FileHandle]
      return new LogFiles({ stdout, stderr })
    } catch (error) {
      for (const opened of await Promise.allSettled(opening))
        if (opened.status === 'fulfilled') await opened.value.close()
      throw error
    }
  }

  private constructor(files: Readonly<Record<StreamName, FileHandle>>) {
    this.#files = files
  }

  /**
   * How many bytes each stream has so far. Asked synchronously: of an open file the kernel knows it without a disk, and
   * through the pool of threads it took a sixth of what a flood costs.
   */
  sizes(): Record<StreamName, number> {
    const { stdout, stderr } = this.#files
    return { stdout: fstatSync(stdout.fd).size, stderr: fstatSync(stderr.fd).size }
  }

  /** @returns as many bytes as there are, none at the end */
  async read(stream: StreamName, from: number, length: number): Promise<Buffer> {
    return await this.readInto(Buffer.allocUnsafe(length), stream, from)
  }

  /**
   * @param expected how many there are, as far as is known
   * @returns what of the buffer was filled: as many bytes as there are, none at the end
   */
  async readInto(
    buffer: Buffer,
    stream: StreamName,
    from: number,
    expected = buffer.length,
  ): Promise<Buffer> {
    if (expected <= AT_ONCE_BYTES)
      return buffer.subarray(
        0,
        readSync(this.#files[stream].fd, buffer, 0, Math.min(buffer.length, AT_ONCE_BYTES), from),
      )
    const { bytesRead } = await this.#files[stream].read(buffer, 0, buffer.length, from)
    return buffer.subarray(0, bytesRead)
  }

  /** All bytes from one place to another, in pieces; it ends early where the file does. */
  async *pieces(stream: StreamName, from: number, to: number, size: number): AsyncGenerator<Buffer> {
    for (let at = from; at < to; ) {
      const bytes = await this.read(stream, at, Math.min(size, to - at))
      if (bytes.length === 0) return
      at += bytes.length
      yield bytes
    }
  }

  async close(): Promise<void> {
    await Promise.all(Object.values(this.#files).map(file => file.close().catch(() => undefined)))
  }
}
