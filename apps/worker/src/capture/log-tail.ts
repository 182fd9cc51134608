import { type FSWatcher, watch } from 'node:fs'
import { constants, type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { LogEntry } from '@agirunner/contracts'

export type StreamName = LogEntry['stream']

/** A run of bytes of one stream, where it starts in that stream, and the step it belongs to. */
export interface LogChunk {
  readonly stream: StreamName
  readonly offset: number
  readonly bytes: Buffer
}

const FILES: readonly (readonly [StreamName, string])[] = [
  ['stdout', 'o'],
  ['stderr', 'e'],
]
const READ_BYTES = 256 * 1024
/** Changes are told by the kernel; this is for where it can't (some network and virtual file systems). */
const POLL_MS = 100

/**
 * Follows the two log files of a running container by offset. Reads on only when the last chunk was taken, so a slow
 * reader costs no memory: the files are the buffer. The files are opened before the task runs, so what it does to
 * their names is of no matter.
 */
export class LogTail {
  readonly #handles: readonly { stream: StreamName; file: FileHandle; position: number }[]
  readonly #take: (chunk: LogChunk) => Promise<void>
  readonly #watcher: FSWatcher
  readonly #timer: NodeJS.Timeout
  #reading: Promise<void> | null = null
  #again = false
  #closed = false
  #failure: Error | null = null

  static async open(folder: string, take: (chunk: LogChunk) => Promise<void>): Promise<LogTail> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW
    const handles = await Promise.all(
      FILES.map(async ([stream, name]) => ({
        stream,
        file: await open(join(folder, name), flags),
        position: 0,
      })),
    )
    return new LogTail(folder, handles, take)
  }

  private constructor(
    folder: string,
    handles: { stream: StreamName; file: FileHandle; position: number }[],
    take: (chunk: LogChunk) => Promise<void>,
  ) {
    this.#handles = handles
    this.#take = take
    this.#watcher = watch(folder, () => this.#wake())
    this.#watcher.on('error', () => undefined)
    this.#timer = setInterval(() => this.#wake(), POLL_MS)
    this.#wake()
  }

  /** Reads what is left and closes. Call it when the container has ended. @throws what the reader threw */
  async finish(): Promise<void> {
    this.#stopWaking()
    await this.#reading
    await this.#readAll()
    await this.#close()
    if (this.#failure !== null) throw this.#failure
  }

  /** Closes without reading on. */
  async abandon(): Promise<void> {
    this.#stopWaking()
    this.#closed = true
    await this.#reading
    await this.#close()
  }

  #wake(): void {
    if (this.#closed) return
    if (this.#reading) {
      this.#again = true
      return
    }
    this.#reading = this.#readAll().finally(() => {
      this.#reading = null
      if (this.#again) {
        this.#again = false
        this.#wake()
      }
    })
  }

  async #readAll(): Promise<void> {
    try {
      for (let grew = true; grew && this.#failure === null; ) {
        grew = false
        for (const handle of this.#handles) grew = (await this.#readSome(handle)) || grew
        if (this.#closed) return
      }
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(String(error))
    }
  }

  async #readSome(handle: { stream: StreamName; file: FileHandle; position: number }): Promise<boolean> {
    const { bytesRead, buffer } = await handle.file.read(
      Buffer.allocUnsafe(READ_BYTES),
      0,
      READ_BYTES,
      handle.position,
    )
    if (bytesRead === 0) return false
    const offset = handle.position
    handle.position += bytesRead
    await this.#take({ stream: handle.stream, offset, bytes: buffer.subarray(0, bytesRead) })
    return true
  }

  #stopWaking(): void {
    this.#watcher.close()
    clearInterval(this.#timer)
    this.#again = false
  }

  async #close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#handles.map(({ file }) => file.close().catch(() => undefined)))
  }
}
