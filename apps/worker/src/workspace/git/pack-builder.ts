import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import { deflateSync } from 'node:zlib'
import { type ObjectType, renderEntryHead } from './objects.js'

const CHUNK_BYTES = 2 ** 20
const COUNT_AT = 8

/**
 * Writes a pack object by object, without deltas: how many there are is known at the end. Only one object is in memory
 * at a time.
 */
export class PackBuilder {
  readonly #fd: number
  readonly #maxBytes: number
  #count = 0
  #size = 0

  /**
   * @param path of the pack, which must not be there
   * @param maxBytes of the pack, compressed
   */
  constructor(path: string, maxBytes: number) {
    this.#fd = openSync(path, 'wx+', 0o600)
    this.#maxBytes = maxBytes
    const head = Buffer.alloc(12)
    head.write('PACK')
    head.writeUInt32BE(2, 4)
    this.#write(head)
  }

  /** @throws Error when the pack would be too large */
  add(type: ObjectType, data: Buffer): void {
    this.#write(Buffer.concat([renderEntryHead(type, data.length), deflateSync(data)]))
    this.#count += 1
  }

  /** Writes the number of objects and the trailer. @returns how many objects there are */
  end(): number {
    const count = Buffer.alloc(4)
    count.writeUInt32BE(this.#count)
    writeSync(this.#fd, count, 0, 4, COUNT_AT)
    this.#write(this.#hash())
    return this.#count
  }

  close(): void {
    closeSync(this.#fd)
  }

  #hash(): Buffer {
    const hash = createHash('sha1')
    const chunk = Buffer.allocUnsafe(Math.min(this.#size, CHUNK_BYTES))
    for (let at = 0; at < this.#size; ) {
      const count = readSync(this.#fd, chunk, 0, Math.min(chunk.length, this.#size - at), at)
      if (count === 0) throw new Error('the pack became shorter while it was written')
      hash.update(chunk.subarray(0, count))
      at += count
    }
    return hash.digest()
  }

  #write(bytes: Buffer): void {
    if (this.#size + bytes.length > this.#maxBytes)
      throw new Error(`its objects take more than ${this.#maxBytes} bytes`)
    for (let done = 0; done < bytes.length; )
      done += writeSync(this.#fd, bytes, done, bytes.length - done, this.#size + done)
    this.#size += bytes.length
  }
}
