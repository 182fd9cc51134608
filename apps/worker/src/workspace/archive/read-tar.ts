import {
  applyPax,
  BLOCK,
  type Decoded,
  decodeBlock,
  decodePax,
  TarError,
  type TarHeader,
} from './tar-header.js'

/** A header block's records may be so large at most, in bytes; extended attributes are among them. */
const MAX_RECORDS = 2 ** 20

/** One entry of an archive that is being read. Its content must be read, or is skipped, before the next one is. */
export interface TarEntry {
  readonly header: TarHeader
  /** The file's bytes, as they arrive. */
  readonly content: () => AsyncGenerator<Buffer>
}

/**
 * Reads an archive entry by entry, holding no more of it than a chunk of the source.
 *
 * @throws TarError when it breaks the format, or ends before its end
 */
export async function* readTar(source: AsyncIterable<Buffer>): AsyncGenerator<TarEntry> {
  const bytes = new ByteSource(source)
  try {
    let records: Map<string, string> = new Map()
    for (;;) {
      const decoded = decodeBlock(await bytes.take(BLOCK))
      if (decoded.kind === 'end') return
      if (decoded.kind !== 'entry') {
        await readMeta(bytes, decoded, records)
        continue
      }
      const header = applyPax(decoded.header, records)
      records = new Map()
      const body = new Body(bytes, header.size)
      yield { header, content: () => body.read() }
      await body.skip()
    }
  } finally {
    await bytes.close()
  }
}

/** Records about the entry that follows. Those about all entries are not needed here, and an unknown kind is passed over. */
async function readMeta(
  bytes: ByteSource,
  { kind, size }: Exclude<Decoded, { kind: 'entry' | 'end' }>,
  records: Map<string, string>,
): Promise<void> {
  const body = new Body(bytes, size)
  if (kind === 'unknown' || kind === 'global_pax') return await body.skip()
  if (size > MAX_RECORDS) throw new TarError(`records of ${size} bytes are before an entry`)
  const text = await bytes.take(size)
  body.taken(size)
  await body.skip()
  if (kind === 'pax') for (const [key, value] of decodePax(text)) records.set(key, value)
  else records.set(kind === 'long_name' ? 'path' : 'linkpath', text.toString('latin1').replace(/\0.*$/s, ''))
}

/** The content of one entry with what fills its last block. */
class Body {
  readonly #bytes: ByteSource
  readonly #filling: number
  #left: number
  #skipped = false

  constructor(bytes: ByteSource, size: number) {
    this.#bytes = bytes
    this.#left = size
    this.#filling = (BLOCK - (size % BLOCK)) % BLOCK
  }

  async *read(): AsyncGenerator<Buffer> {
    while (this.#left > 0) {
      const chunk = await this.#bytes.some(this.#left)
      this.#left -= chunk.length
      yield chunk
    }
  }

  taken(count: number): void {
    this.#left -= count
  }

  async skip(): Promise<void> {
    if (this.#skipped) return
    this.#skipped = true
    for (let left = this.#left + this.#filling; left > 0; ) left -= (await this.#bytes.some(left)).length
    this.#left = 0
  }
}

/** Bytes by count from chunks of any size. */
class ByteSource {
  readonly #chunks: AsyncIterator<Buffer>
  #rest: Buffer = Buffer.alloc(0)

  constructor(source: AsyncIterable<Buffer>) {
    this.#chunks = source[Symbol.asyncIterator]()
  }

  /** At least one byte, at most `count`. @throws TarError at the end */
  async some(count: number): Promise<Buffer> {
    while (this.#rest.length === 0) {
      const { value, done } = await this.#chunks.next()
      if (done === true) throw new TarError('the archive ends before its end')
      this.#rest = value
    }
    const taken = this.#rest.subarray(0, count)
    this.#rest = this.#rest.subarray(taken.length)
    return taken
  }

  /** Exactly `count` bytes. */
  async take(count: number): Promise<Buffer> {
    const first = count === 0 ? Buffer.alloc(0) : await this.some(count)
    if (first.length === count) return first
    const parts = [first]
    for (let left = count - first.length; left > 0; ) {
      const part = await this.some(left)
      parts.push(part)
      left -= part.length
    }
    return Buffer.concat(parts)
  }

  async close(): Promise<void> {
    await this.#chunks.return?.()
  }
}
