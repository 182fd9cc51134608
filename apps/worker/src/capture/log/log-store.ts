import { rm, stat } from 'node:fs/promises'
import { OpenFile } from '../../support/open-file.js'
import { AT_ONCE_BYTES, type StreamName } from './log-files.js'
import type { LogPart } from './log-pipe.js'

/** How far each stream has been told, and how long the file is with that; in bytes. */
export interface LogPosition extends Readonly<Record<StreamName, number>> {
  readonly file: number
  /** Whether what comes next is the tail of a log from which something was left out. */
  readonly cut: boolean
}

const START: LogPosition = { stdout: 0, stderr: 0, file: 0, cut: false }
/**
 * The seq before the first entry; then for each entry the position after it, `file` negative from the cut on. All of them
 * doubles.
 */
const HEADER_BYTES = 8
/** So many are handed to the kernel as they are; more and smaller ones are copied together first. */
const MAX_PIECES = 64
const RECORD_BYTES = 24

/**
 * The whole log of an attempt in one file, both streams in the order of arrival. Beside it lies an index of what each
 * entry of the Redis stream stands for, so that a worker that comes after another's death knows where to go on.
 */
export class LogStore {
  readonly path: string
  readonly #log: OpenFile
  readonly #index: OpenFile
  #position: LogPosition
  #entries: number

  /** @param seq of the last entry of the Redis stream, which an earlier attempt wrote */
  static async create(path: string, seq: number): Promise<LogStore> {
    const log = new OpenFile(path, 'wx+', 0o600)
    try {
      const index = new OpenFile(indexOf(path), 'wx', 0o600)
      const store = new LogStore(path, log, index, START, 0)
      await writeAll(index, [doubles([seq])], 0)
      return store
    } catch (error) {
      await log.close()
      throw error
    }
  }

  /**
   * Goes on where Redis has got to: what was written beyond, and not acknowledged, is cut off.
   *
   * @param seq of the last entry of the Redis stream
   * @throws Error when the files do not go so far
   */
  static async resume(path: string, seq: number): Promise<LogStore> {
    if (await isUnbegun(path)) {
      await Promise.all([path, indexOf(path)].map(one => rm(one, { force: true })))
      return await LogStore.create(path, seq)
    }
    const log = new OpenFile(path, 'r+')
    let index: OpenFile | null = null
    try {
      index = new OpenFile(indexOf(path), 'r+')
      const before = (await readDoubles(index, 0, 1))[0] ?? Number.NaN
      const entries = seq - before
      const position = entries === 0 ? START : await positionAfter(index, entries)
      if (!(entries >= 0) || log.size < position.file)
        throw new Error('the log on the disk ends before the one in Redis')
      log.truncate(position.file)
      index.truncate(HEADER_BYTES + entries * RECORD_BYTES)
      return new LogStore(path, log, index, position, entries)
    } catch (error) {
      await log.close()
      await index?.close()
      throw error
    }
  }

  private constructor(path: string, log: OpenFile, index: OpenFile, position: LogPosition, entries: number) {
    this.path = path
    this.#log = log
    this.#index = index
    this.#position = position
    this.#entries = entries
  }

  get position(): LogPosition {
    return this.#position
  }

  /** What is appended from now on comes after something that was left out. */
  cut(): void {
    this.#position = { ...this.#position, cut: true }
  }

  /** The last byte of the file; null when it is empty. */
  async lastByte(): Promise<number | null> {
    const { file } = this.#position
    if (file === 0) return null
    const byte = Buffer.alloc(1)
    await this.#log.read(byte, 1, file - 1)
    return byte[0] ?? null
  }

  /** The end of the file. @throws Error when it is closed */
  async lastBytes(count: number): Promise<Buffer> {
    const { file } = this.#position
    const from = Math.max(0, file - count)
    const bytes = Buffer.alloc(file - from)
    return bytes.subarray(0, await this.#log.read(bytes, bytes.length, from))
  }

  /** To be called before the parts become entries: one for each that shows anything. */
  async append(parts: readonly LogPart[]): Promise<void> {
    const { file } = this.#position
    const records: number[] = []
    for (const { stream, offset, length, bytes } of parts) {
      const at = this.#position
      this.#position = { ...at, [stream]: offset + length, file: at.file + bytes.length }
      const { stdout, stderr, file: size, cut } = this.#position
      if (bytes.length > 0) records.push(stdout, stderr, cut ? -size : size)
    }
    const shown = parts.flatMap(({ bytes }) => (bytes.length > 0 ? [bytes] : []))
    if (shown.length === 0) return
    await Promise.all([
      writeAll(this.#log, shown.length > MAX_PIECES ? [Buffer.concat(shown)] : shown, file),
      writeAll(this.#index, [doubles(records)], HEADER_BYTES + this.#entries * RECORD_BYTES),
    ])
    this.#entries += shown.length
  }

  /** The log is whole. Its index stays, for who goes on with the attempt when this worker dies before its report. */
  async finish(): Promise<void> {
    await this.#log.sync()
    await this.close()
  }

  async forgetIndex(): Promise<void> {
    await rm(indexOf(this.path), { force: true })
  }

  async close(): Promise<void> {
    await Promise.all([this.#log, this.#index].map(file => file.close()))
  }
}

/** A worker may have died before it told anything: the index is written before anything gets to Redis. */
async function isUnbegun(path: string): Promise<boolean> {
  const sizes = await Promise.all(
    [path, indexOf(path)].map(one =>
      stat(one).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  const [log = 0, index = 0] = sizes
  return log === 0 && index <= HEADER_BYTES
}

function indexOf(path: string): string {
  return `${path}.index`
}

async function positionAfter(index: OpenFile, entries: number): Promise<LogPosition> {
  const at = HEADER_BYTES + (entries - 1) * RECORD_BYTES
  const [stdout = Number.NaN, stderr = Number.NaN, file = Number.NaN] = await readDoubles(index, at, 3)
  return { stdout, stderr, file: Math.abs(file), cut: file < 0 }
}

async function readDoubles(file: OpenFile, at: number, count: number): Promise<number[]> {
  const buffer = Buffer.alloc(count * 8)
  if ((await file.read(buffer, buffer.length, at)) < count * 8)
    throw new Error("the log's index ends before the log in Redis")
  return Array.from({ length: count }, (_, number) => buffer.readDoubleLE(number * 8))
}

function doubles(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 8)
  for (const [at, number] of numbers.entries()) bytes.writeDoubleLE(number, at * 8)
  return bytes
}

async function writeAll(file: OpenFile, pieces: readonly Buffer[], position: number): Promise<void> {
  let rest = pieces
  const isLittle = pieces.reduce((sum, piece) => sum + piece.length, 0) <= AT_ONCE_BYTES
  for (let at = position; rest.length > 0; ) {
    const bytesWritten = isLittle ? file.writevSync(rest, at) : await file.writev(rest, at)
    at += bytesWritten
    rest = withoutFirst(rest, bytesWritten)
  }
}

function withoutFirst(pieces: readonly Buffer[], bytes: number): Buffer[] {
  let left = bytes
  return pieces.flatMap(piece => {
    const cut = Math.min(left, piece.length)
    left -= cut
    return cut === piece.length ? [] : [piece.subarray(cut)]
  })
}
