import { type FSWatcher, watch } from 'node:fs'
import { type LogFiles, STREAMS, type StreamName } from './log-files.js'

/** A run of bytes of one stream, and where it starts in that stream. */
export interface LogChunk {
  readonly stream: StreamName
  readonly offset: number
  readonly bytes: Buffer
}

/**
 * Small enough that a chunk keeps no other task waiting, and that a flood costs little memory: pieces of 256 KiB take a
 * quarter less of the processor, and raised the worker by 64 MiB.
 */
const READ_BYTES = 64 * 1024
/** Changes are told by the kernel; this is for where it can't (some network and virtual file systems). */
const POLL_MS = 100

export interface LogTailOptions {
  /** The slot's log folder. */
  readonly folder: string
  readonly files: LogFiles
  /** Where to begin in each stream. */
  readonly from: Readonly<Record<StreamName, number>>
  /** Told how much there is before any of it is read, as often as it grows. */
  readonly onSizes: (sizes: Readonly<Record<StreamName, number>>) => void
  readonly take: (chunk: LogChunk) => Promise<void>
}

/**
 * Follows the log files of a running container by offset. Reads on only when the last chunk was taken, so a slow
 * reader costs no memory: the files are the buffer.
 */
export class LogTail {
  readonly #options: LogTailOptions
  readonly #position: Record<StreamName, number>
  readonly #watcher: FSWatcher
  readonly #timer: NodeJS.Timeout
  #reading: Promise<void> | null = null
  #again = false
  #closed = false
  #failure: Error | null = null

  constructor(options: LogTailOptions) {
    this.#options = options
    this.#position = { ...options.from }
    this.#watcher = watch(options.folder, () => this.#wake())
    this.#watcher.on('error', () => undefined)
    this.#timer = setInterval(() => this.#wake(), POLL_MS)
    this.#wake()
  }

  /** Reads what is left. Call it when the container has ended. @throws what the reader threw */
  async finish(): Promise<void> {
    this.#stopWaking()
    await this.#reading
    await this.#readAll()
    this.#closed = true
    if (this.#failure !== null) throw this.#failure
  }

  /** Reads no further. */
  async abandon(): Promise<void> {
    this.#stopWaking()
    this.#closed = true
    await this.#reading
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
      while (this.#failure === null && !this.#closed) {
        const sizes = await this.#options.files.sizes()
        const grown = STREAMS.filter(stream => sizes[stream] > this.#position[stream])
        if (grown.length === 0) return
        this.#options.onSizes(sizes)
        // In turns, so that neither stream waits for a flood of the other.
        for (const stream of grown) await this.#readSome(stream)
      }
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(String(error))
    }
  }

  async #readSome(stream: StreamName): Promise<void> {
    const offset = this.#position[stream]
    const bytes = await this.#options.files.read(stream, offset, READ_BYTES)
    if (bytes.length === 0) return
    this.#position[stream] += bytes.length
    await this.#options.take({ stream, offset, bytes })
  }

  #stopWaking(): void {
    this.#watcher.close()
    clearInterval(this.#timer)
    this.#again = false
  }
}
