import { type FSWatcher, watch } from 'node:fs'
import { type LogFiles, STREAMS, type StreamName } from './log-files.js'

/** A run of bytes of one stream, and where it starts in that stream. */
export interface LogChunk {
  readonly stream: StreamName
  readonly offset: number
  readonly bytes: Buffer
}

/**
 * A read goes through the pool of threads, so few large ones cost less. They go into two buffers that stay: where each
 * had a buffer of its own, a flood raised the worker by 64 MiB until they were collected.
 */
const READ_BYTES = 256 * 1024
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
  /** The chunk's bytes are its own until it resolves, and no longer. */
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
  /** One is taken while the other is read into. */
  readonly #buffers: Buffer[] = []
  /** Which stream was read last. */
  #last: StreamName | null = null
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
    let ahead = this.#read()
    try {
      for (let chunk = await ahead; chunk !== null; chunk = await ahead) {
        ahead = this.#read()
        // It may fail before anybody waits for it.
        ahead.catch(() => undefined)
        await this.#options.take(chunk)
      }
    } catch (error) {
      this.#failure ??= error instanceof Error ? error : new Error(String(error))
      // Nobody closes the files before it has ended.
      await ahead.catch(() => undefined)
    }
  }

  /** What one of the streams has more, in turns, so that neither waits for a flood of the other; null for nothing. */
  async #read(): Promise<LogChunk | null> {
    if (this.#failure !== null || this.#closed) return null
    const { files, onSizes } = this.#options
    const sizes = files.sizes()
    const grown = STREAMS.filter(stream => sizes[stream] > this.#position[stream])
    const stream = grown.find(name => name !== this.#last) ?? grown[0]
    if (stream === undefined) return null
    onSizes(sizes)
    this.#last = stream
    const offset = this.#position[stream]
    const bytes = await files.readInto(this.#buffer(), stream, offset, sizes[stream] - offset)
    this.#position[stream] += bytes.length
    return bytes.length > 0 ? { stream, offset, bytes } : null
  }

  /** The one that is not being taken. Most tasks print too little to need two. */
  #buffer(): Buffer {
    this.#buffers.reverse()
    if (this.#buffers.length < 2) this.#buffers.unshift(Buffer.allocUnsafeSlow(READ_BYTES))
    return this.#buffers[0] as Buffer
  }

  #stopWaking(): void {
    this.#watcher.close()
    clearInterval(this.#timer)
    this.#again = false
  }
}
