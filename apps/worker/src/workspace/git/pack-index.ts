import { createHash } from 'node:crypto'
import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs'
import { crc32, deflateSync, inflateSync } from 'node:zlib'
import {
  applyDelta,
  ENTRY_HEAD_BYTES,
  type EntryHead,
  type GitObject,
  hashObject,
  ObjectError,
  ObjectSizeError,
  type ObjectType,
  parseEntryHead,
  renderEntryHead,
} from './objects.js'

const TRAILER_BYTES = 20
const HEADER_BYTES = 12
const WINDOW_BYTES = 4 * 2 ** 20
const JUMP_BYTES = 16 * 2 ** 10
/** What the bases of deltas may hold while the deltas on them are resolved. */
const MAX_HELD_BYTES = 2 ** 30

interface PackEntry {
  readonly offset: number
  /** Where its compressed data starts. */
  readonly data: number
  /** Of what is compressed: the object, or the delta. */
  readonly size: number
  readonly crc: number
  oid: string | null
}

interface DeltaEntry extends PackEntry {
  readonly base: number | string
}

export interface PackIndexOptions {
  /** A single object larger than this is an error. */
  readonly maxObjectBytes: number
  /** Told now and then how many objects have been read. */
  readonly progress: (done: number, total: number) => void
  /** An object that we have already, on which the deltas of a thin pack may lie; null when we don't. */
  readonly known: (oid: string) => GitObject | null
}

/**
 * Makes the index (version 2) of a pack that a server sent. Everything of the pack is checked: its trailer, that every
 * object unfolds to what it says, that no delta lacks its base; ids are computed, never taken. By the platform's own
 * zlib and hashes, each object once and only the bases of open deltas in memory. A thin pack is made whole: the bases
 * that it lacks are added at its end, as `git index-pack --fix-thin` does, because git reads no other.
 *
 * isomorphic-git's own indexing is most of the time of a large first clone, and holds the whole pack.
 *
 * @param path of the pack; its index is written beside it as `.idx`
 * @returns the pack's id, which its file is named after
 * @throws ObjectError when it is broken or holds too large an object
 */
export function indexPack(path: string, options: PackIndexOptions): string {
  const pack = new PackFile(path)
  try {
    const { entries, deltas } = readEntries(pack, options)
    let id = pack.verify()
    const added = new Resolver(pack, entries, deltas, options).run()
    if (added.length > 0) id = pack.complete(entries, added)
    writeFileSync(path.replace(/\.pack$/, '.idx'), renderIndex(entries, id))
    return id
  } finally {
    pack.close()
  }
}

/** A pack on the disk, read through a window that moves forward. */
class PackFile {
  size: number
  readonly #fd: number
  #window = Buffer.alloc(0)
  #start = 0

  constructor(path: string) {
    this.#fd = openSync(path, 'r+')
    this.size = fstatSync(this.#fd).size
  }

  close(): void {
    closeSync(this.#fd)
  }

  /** @returns the pack's id: the hash of all that comes before it */
  verify(): string {
    if (this.size < HEADER_BYTES + TRAILER_BYTES) throw new ObjectError('the pack breaks off')
    const end = this.size - TRAILER_BYTES
    const id = this.#hash(end)
    if (this.bytes(end, TRAILER_BYTES).toString('hex') !== id) {
      throw new ObjectError('the pack is not what its trailer says')
    }
    return id
  }

  get count(): number {
    const head = this.bytes(0, HEADER_BYTES)
    if (head.toString('latin1', 0, 4) !== 'PACK' || head.readUInt32BE(4) !== 2) {
      throw new ObjectError('the pack has no valid header')
    }
    return head.readUInt32BE(8)
  }

  /** Up to `length` bytes; fewer at the end of what holds objects. Valid until the next call. */
  bytes(at: number, length: number): Buffer {
    const wanted = Math.max(0, Math.min(length, this.size - at))
    if (at < this.#start || at + wanted > this.#start + this.#window.length) this.#load(at, wanted)
    return this.#window.subarray(at - this.#start, at - this.#start + wanted)
  }

  /** Inflates what starts at `at`. @returns the data and how many bytes it was made of */
  inflate(at: number, size: number): { data: Buffer; length: number } {
    for (let guess = Math.max(4096, size + 1024); ; guess *= 4) {
      const raw = this.bytes(at, guess)
      try {
        return inflateExactly(raw, size)
      } catch (error) {
        const more = (error as NodeJS.ErrnoException).code === 'Z_BUF_ERROR' && at + raw.length < this.size
        if (more) continue
        throw error instanceof ObjectError ? error : new ObjectError(`an object is broken: ${String(error)}`)
      }
    }
  }

  /** Adds the objects that a thin pack lacks, with their entries. @returns the id of the whole pack */
  complete(entries: PackEntry[], added: readonly GitObject[]): string {
    this.size -= TRAILER_BYTES
    for (const { type, data } of added) {
      const head = renderEntryHead(type, data.length)
      const bytes = Buffer.concat([head, deflateSync(data)])
      const entry = { offset: this.size, data: this.size + head.length, size: data.length, crc: crc32(bytes) }
      entries.push({ ...entry, oid: hashObject(type, data) })
      this.#write(bytes, this.size)
      this.size += bytes.length
    }
    const count = Buffer.alloc(4)
    count.writeUInt32BE(entries.length)
    this.#write(count, 8)
    this.#window = Buffer.alloc(0)
    const id = this.#hash(this.size)
    this.#write(Buffer.from(id, 'hex'), this.size)
    this.size += TRAILER_BYTES
    ftruncateSync(this.#fd, this.size)
    return id
  }

  #hash(end: number): string {
    const hash = createHash('sha1')
    for (let at = 0; at < end; at += WINDOW_BYTES)
      hash.update(this.bytes(at, Math.min(WINDOW_BYTES, end - at)))
    return hash.digest('hex')
  }

  #write(bytes: Buffer, at: number): void {
    for (let done = 0; done < bytes.length; )
      done += writeSync(this.#fd, bytes, done, bytes.length - done, at + done)
  }

  /** Going on forwards reads ahead; a jump, as from a delta to its base, reads what was asked for. */
  #load(at: number, wanted: number): void {
    const isNext = at >= this.#start && at <= this.#start + this.#window.length
    const length = Math.min(Math.max(wanted, isNext ? WINDOW_BYTES : JUMP_BYTES), this.size - at)
    if (this.#window.length !== length) this.#window = Buffer.allocUnsafe(length)
    this.#start = at
    for (let filled = 0; filled < length; ) {
      const count = readSync(this.#fd, this.#window, filled, length - filled, at + filled)
      if (count === 0) throw new ObjectError('the pack breaks off')
      filled += count
    }
  }
}

interface Inflated {
  readonly buffer: Buffer
  readonly engine: { readonly bytesWritten: number }
}

function inflateExactly(raw: Buffer, size: number): { data: Buffer; length: number } {
  const chunkSize = Math.max(64, Math.min(size + 1, 2 ** 20))
  const options = { info: true, chunkSize, maxOutputLength: size + 1 }
  const { buffer, engine } = inflateSync(raw, options) as unknown as Inflated
  if (buffer.length !== size) throw new ObjectError('an object is not as long as it says')
  return { data: buffer, length: engine.bytesWritten }
}

/** Reads every object once: what is whole gets its id, what is a delta waits for its base. */
function readEntries(
  pack: PackFile,
  { maxObjectBytes, progress }: PackIndexOptions,
): { entries: PackEntry[]; deltas: DeltaEntry[] } {
  const { count } = pack
  const entries: PackEntry[] = []
  const deltas: DeltaEntry[] = []
  let at = HEADER_BYTES
  for (let index = 0; index < count; index += 1) {
    const head = readHead(pack, at)
    if (head.size > maxObjectBytes) throw new ObjectSizeError('an object is too large')
    const { data, length } = pack.inflate(at + head.length, head.size)
    const end = at + head.length + length
    const common = { offset: at, data: at + head.length, size: head.size, crc: crcOf(pack, at, end) }
    if (head.base === null) entries.push({ ...common, oid: hashObject(head.type as ObjectType, data) })
    else {
      const delta = { ...common, base: head.base, oid: null }
      entries.push(delta)
      deltas.push(delta)
    }
    at = end
    if (index % 1024 === 0) progress(index, count)
  }
  if (at !== pack.size - TRAILER_BYTES) throw new ObjectError('the pack holds more than it says')
  progress(count, count)
  return { entries, deltas }
}

function crcOf(pack: PackFile, from: number, to: number): number {
  let crc = 0
  for (let at = from; at < to; at += WINDOW_BYTES)
    crc = crc32(pack.bytes(at, Math.min(WINDOW_BYTES, to - at)), crc)
  return crc
}

function readHead(pack: PackFile, offset: number): EntryHead {
  const head = parseEntryHead(pack.bytes(offset, ENTRY_HEAD_BYTES), offset)
  if (head.base === null && !head.type) throw new ObjectError('a pack holds an object of no known type')
  return head
}

interface Base {
  readonly type: ObjectType
  readonly data: Buffer
  /** The deltas on it that are still to do. */
  readonly pending: DeltaEntry[]
}

/** Resolves deltas from their bases upwards, so that each object is unfolded once. */
class Resolver {
  readonly #pack: PackFile
  readonly #entries: readonly PackEntry[]
  readonly #byBase = new Map<number | string, DeltaEntry[]>()
  readonly #options: PackIndexOptions
  #left: number

  constructor(
    pack: PackFile,
    entries: readonly PackEntry[],
    deltas: readonly DeltaEntry[],
    options: PackIndexOptions,
  ) {
    this.#pack = pack
    this.#entries = entries
    this.#options = options
    this.#left = deltas.length
    for (const delta of deltas) {
      const same = this.#byBase.get(delta.base)
      if (same) same.push(delta)
      else this.#byBase.set(delta.base, [delta])
    }
  }

  /** @returns the bases that are not in the pack */
  run(): GitObject[] {
    for (const entry of this.#entries) {
      if (this.#left === 0) return []
      if (entry.oid === null || 'base' in entry) continue
      const pending = this.#takeDeltas(entry)
      if (pending.length === 0) continue
      const head = readHead(this.#pack, entry.offset)
      const { data } = this.#pack.inflate(entry.data, entry.size)
      this.#resolve({ type: head.type as ObjectType, data, pending })
    }
    const added: GitObject[] = []
    for (const oid of [...this.#byBase.keys()].filter(key => typeof key === 'string')) {
      const object = this.#byBase.has(oid) ? this.#options.known(oid) : null
      if (!object) continue
      added.push(object)
      this.#resolve({ ...object, pending: this.#take(oid) })
    }
    if (this.#left > 0) throw new ObjectError('a delta has no base')
    return added
  }

  /** A base is let go when the last delta on it is begun, so that a long chain holds two objects and not all. */
  #resolve(root: Base): void {
    const open = [root]
    let held = root.data.length
    for (let base = open.at(-1); base; base = open.at(-1)) {
      const delta = base.pending.pop()
      if (!delta || base.pending.length === 0) {
        open.pop()
        held -= base.data.length
      }
      if (!delta) continue
      const made = this.#apply(base, delta)
      if (made.pending.length === 0) continue
      open.push(made)
      held += made.data.length
      if (held > MAX_HELD_BYTES) throw new ObjectSizeError('the deltas of a pack unfold to too much')
    }
  }

  #apply(base: Base, delta: DeltaEntry): Base {
    const { data: instructions } = this.#pack.inflate(delta.data, delta.size)
    const data = applyDelta(base.data, instructions, this.#options.maxObjectBytes)
    delta.oid = hashObject(base.type, data)
    this.#left -= 1
    return { type: base.type, data, pending: this.#takeDeltas(delta) }
  }

  /** Deltas name their base by place or by id; each is taken once, also where a pack holds an object twice. */
  #takeDeltas(entry: PackEntry): DeltaEntry[] {
    return [...this.#take(entry.offset), ...this.#take(entry.oid ?? '')]
  }

  #take(base: number | string): DeltaEntry[] {
    const taken = this.#byBase.get(base) ?? []
    this.#byBase.delete(base)
    return taken
  }
}

const MAX_SMALL_OFFSET = 0x80000000

function renderIndex(entries: readonly PackEntry[], id: string): Buffer {
  const sorted = entries.toSorted((a, b) => ((a.oid ?? '') < (b.oid ?? '') ? -1 : 1))
  const large = sorted.filter(({ offset }) => offset >= MAX_SMALL_OFFSET)
  const count = sorted.length
  const index = Buffer.alloc(8 + 1024 + count * 28 + large.length * 8)
  index.writeUInt32BE(0xff744f63, 0)
  index.writeUInt32BE(2, 4)
  const names = 8 + 1024
  const crcs = names + count * 20
  const offsets = crcs + count * 4
  const larges = offsets + count * 4
  let nextLarge = 0
  for (const [position, { oid, crc, offset }] of sorted.entries()) {
    index.write(oid ?? '', names + position * 20, 'hex')
    index.writeUInt32BE(crc, crcs + position * 4)
    if (offset >= MAX_SMALL_OFFSET) {
      index.writeUInt32BE(MAX_SMALL_OFFSET + nextLarge, offsets + position * 4)
      index.writeBigUInt64BE(BigInt(offset), larges + nextLarge * 8)
      nextLarge += 1
    } else index.writeUInt32BE(offset, offsets + position * 4)
    const first = index[names + position * 20] ?? 0
    index.writeUInt32BE(position + 1, 8 + first * 4)
  }
  // The fan-out table: how many ids start with a byte up to this one.
  for (let byte = 1; byte < 256; byte += 1) {
    const at = 8 + byte * 4
    index.writeUInt32BE(Math.max(index.readUInt32BE(at), index.readUInt32BE(at - 4)), at)
  }
  const body = Buffer.concat([index, Buffer.from(id, 'hex')])
  return Buffer.concat([body, createHash('sha1').update(body).digest()])
}
