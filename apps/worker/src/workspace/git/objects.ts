import { createHash } from 'node:crypto'
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { inflateSync } from 'node:zlib'

export type ObjectType = 'commit' | 'tree' | 'blob' | 'tag'
export interface GitObject {
  readonly type: ObjectType
  readonly data: Buffer
}

export const EMPTY_TREE = '4b825dc642cb6eb9a060e54bf8d69288fbee4904'

export function hashObject(type: ObjectType, data: Uint8Array): string {
  return createHash('sha1').update(`${type} ${data.length}\0`).update(data).digest('hex')
}

/** An object that is not there, or not what it should be. */
export class ObjectError extends Error {}
/** An object, or a file of the repository, that is larger than may be. */
export class ObjectSizeError extends ObjectError {}

/** An object as it lies in a pack. */
export interface RawEntry {
  /** Which of the store's packs. */
  readonly pack: number
  readonly offset: number
  /** Its header with the reference to its base, as it is. */
  readonly head: Buffer
  /** Of what is compressed: the object, or the delta. */
  readonly size: number
  /** What a delta lies on: an offset in the same pack, or an id. Null for a whole object. */
  readonly base: number | string | null
  readonly compressed: () => Buffer
}

/** Enough for an entry's header with the reference to its base: 10 + 20 bytes, rounded up. */
export const ENTRY_HEAD_BYTES = 64

export interface EntryHead {
  /** Of the header itself, in bytes. */
  readonly length: number
  /** Of what is compressed: the object, or the delta. */
  readonly size: number
  readonly base: RawEntry['base']
  /** Of a whole object; undefined for a delta, and where the number stands for no type. */
  readonly type: ObjectType | undefined
}

/**
 * Reads the header of a pack's entry.
 *
 * @param bytes from the entry's beginning on, ENTRY_HEAD_BYTES where there are so many
 * @param offset of the entry in its pack
 * @throws ObjectError when it is a delta on something before its pack
 */
export function parseEntryHead(bytes: Buffer, offset: number): EntryHead {
  let at = 0
  const next = () => bytes[at++] ?? 0
  let byte = next()
  const kind = (byte >> 4) & 7
  let size = byte & 15
  for (let scale = 16; byte & 0x80; scale *= 128) {
    byte = next()
    size += (byte & 0x7f) * scale
  }
  if (kind === OFS_DELTA) {
    byte = next()
    let back = byte & 0x7f
    while (byte & 0x80) {
      byte = next()
      back = (back + 1) * 128 + (byte & 0x7f)
    }
    if (back <= 0 || back > offset) throw new ObjectError('a delta points outside its pack')
    return { length: at, size, base: offset - back, type: undefined }
  }
  if (kind === REF_DELTA) {
    return { length: at + 20, size, base: bytes.toString('hex', at, at + 20), type: undefined }
  }
  return { length: at, size, base: null, type: TYPES[kind] }
}

/** The header of a pack's entry, without a reference to a base. @param kind a type, or `OFS_DELTA` */
export function renderEntryHead(kind: ObjectType | typeof OFS_DELTA, size: number): Buffer {
  const number = kind === OFS_DELTA ? OFS_DELTA : Object.values(TYPES).indexOf(kind) + 1
  const bytes = [(number << 4) | (size & 15)]
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 0x80
    bytes.push(rest & 0x7f)
  }
  return Buffer.from(bytes)
}

/** How a store gets at its files: the names in a folder, none when it isn't there; a file opened, null when it isn't. */
export interface FileReader {
  list(path: string): string[]
  open(path: string): number | null
}

const TRUSTED: FileReader = {
  list: path => (existsSync(path) ? readdirSync(path) : []),
  open: path => (existsSync(path) ? openSync(path, 'r') : null),
}

const TYPES: Readonly<Record<number, ObjectType>> = { 1: 'commit', 2: 'tree', 3: 'blob', 4: 'tag' }
export const OFS_DELTA = 6
const REF_DELTA = 7
const TRAILER_BYTES = 20
const CACHE_BYTES = 64 * 2 ** 20
const MAX_CHAIN = 5000
const MAX_INDEX_BYTES = 2 ** 30

/**
 * Reads the objects of a repository's `.git` that we made ourselves: packs by offset, so that the cost is that of
 * the objects asked for and not that of the pack. Synchronous, for child processes only.
 *
 * isomorphic-git reads a whole pack into memory first, which for capture would make a one-file change cost as much
 * as the repository is big.
 */
export class ObjectStore {
  readonly #objects: string
  readonly #packs: readonly Pack[]
  readonly #maxBytes: number
  readonly #reader: FileReader

  /**
   * @param maxBytes an object larger than this is an error
   * @param reader for a repository that is not ours
   * @param only the packs to read, without endings; all by default
   */
  constructor(
    gitDir: string,
    maxBytes: number,
    reader: FileReader = TRUSTED,
    only: readonly string[] | null = null,
  ) {
    this.#objects = join(gitDir, 'objects')
    this.#maxBytes = maxBytes
    this.#reader = reader
    const folder = join(this.#objects, 'pack')
    const names = reader.list(folder)
    this.#packs = names
      .filter(name => name.endsWith('.idx') && names.includes(name.replace(/idx$/, 'pack')))
      .filter(name => only === null || only.includes(name.slice(0, -'.idx'.length)))
      .map(name => new Pack(join(folder, name.slice(0, -4)), this, reader))
  }

  get maxBytes(): number {
    return this.#maxBytes
  }

  close(): void {
    for (const pack of this.#packs) pack.close()
  }

  has(oid: string): boolean {
    if (oid === EMPTY_TREE || this.#packs.some(pack => pack.find(oid) !== null)) return true
    return this.#reader.list(join(this.#objects, oid.slice(0, 2))).includes(oid.slice(2))
  }

  /** @throws ObjectError when it is missing, too large or not of that type */
  read(oid: string, type?: ObjectType): GitObject {
    const object = this.#find(oid)
    if (!object) throw new ObjectError(`object ${oid} is missing`)
    if (type && object.type !== type)
      throw new ObjectError(`object ${oid} is a ${object.type}, not a ${type}`)
    return object
  }

  /** How an object lies in one of the packs; null when it is in none. */
  raw(oid: string): RawEntry | null {
    for (const [pack, file] of this.#packs.entries()) {
      const offset = file.find(oid)
      if (offset !== null) return { pack, ...file.raw(offset) }
    }
    return null
  }

  #find(oid: string): GitObject | null {
    if (oid === EMPTY_TREE) return { type: 'tree', data: Buffer.alloc(0) }
    for (const pack of this.#packs) {
      const offset = pack.find(oid)
      if (offset !== null) return pack.read(offset)
    }
    return this.#readLoose(oid)
  }

  #readLoose(oid: string): GitObject | null {
    const fd = this.#reader.open(join(this.#objects, oid.slice(0, 2), oid.slice(2)))
    if (fd === null) return null
    const raw = inflateSync(readAll(fd, this.#maxBytes), { maxOutputLength: this.#maxBytes + 64 })
    const end = raw.indexOf(0)
    const type = raw.toString('latin1', 0, end).split(' ')[0] as ObjectType
    return { type, data: raw.subarray(end + 1) }
  }
}

/** One pack with its index (version 2). */
class Pack {
  readonly #fd: number
  readonly #size: number
  readonly #index: Buffer
  readonly #count: number
  readonly #store: ObjectStore
  readonly #cache = new Map<number, GitObject>()
  #cached = 0
  /** Where entries start, ascending, and where the last one ends; made when it is first needed. */
  #borders: Float64Array | null = null

  constructor(path: string, store: ObjectStore, reader: FileReader) {
    this.#store = store
    this.#index = readAll(opened(reader, `${path}.idx`), MAX_INDEX_BYTES)
    if (this.#index.readUInt32BE(0) !== 0xff744f63 || this.#index.readUInt32BE(4) !== 2) {
      throw new ObjectError('a pack index is not of version 2')
    }
    this.#count = this.#index.readUInt32BE(8 + 255 * 4)
    this.#fd = opened(reader, `${path}.pack`)
    this.#size = fstatSync(this.#fd).size
  }

  close(): void {
    closeSync(this.#fd)
  }

  /** The object's offset in the pack, or null. */
  find(oid: string): number | null {
    const wanted = Buffer.from(oid, 'hex')
    const first = wanted[0] ?? 0
    let low = first === 0 ? 0 : this.#index.readUInt32BE(8 + (first - 1) * 4)
    let high = this.#index.readUInt32BE(8 + first * 4)
    while (low < high) {
      const middle = (low + high) >>> 1
      const at = 8 + 1024 + middle * 20
      const order = wanted.compare(this.#index, at, at + 20)
      if (order === 0) return this.#offset(middle)
      if (order < 0) high = middle
      else low = middle + 1
    }
    return null
  }

  /** An entry as it is. */
  raw(offset: number): Omit<RawEntry, 'pack'> {
    const { size, base, length } = this.#head(offset)
    const end = this.#endOf(offset)
    return {
      offset,
      head: this.#pread(offset, length),
      size,
      base,
      compressed: () => this.#pread(offset + length, end - offset - length),
    }
  }

  #endOf(offset: number): number {
    this.#borders ??= this.#findBorders()
    let low = 0
    let high = this.#borders.length - 1
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#borders[middle] ?? 0) <= offset) low = middle + 1
      else high = middle
    }
    return this.#borders[low] ?? this.#size
  }

  #findBorders(): Float64Array {
    const borders = new Float64Array(this.#count + 1)
    for (let position = 0; position < this.#count; position += 1) borders[position] = this.#offset(position)
    borders[this.#count] = this.#size - TRAILER_BYTES
    return borders.sort()
  }

  #offset(position: number): number {
    const small = 8 + 1024 + this.#count * 24
    const value = this.#index.readUInt32BE(small + position * 4)
    if (value < 0x80000000) return value
    return Number(this.#index.readBigUInt64BE(small + this.#count * 4 + (value - 0x80000000) * 8))
  }

  /** Reads an object and the chain of deltas it is made of. */
  read(offset: number): GitObject {
    const deltas: { at: number; delta: Buffer }[] = []
    let at = offset
    for (;;) {
      const known = this.#cache.get(at)
      if (known) return this.#apply(known, deltas)
      const entry = this.#entry(at)
      if ('type' in entry) return this.#apply(this.#remember(at, entry), deltas)
      if (deltas.length >= MAX_CHAIN) throw new ObjectError('a chain of deltas is too long')
      deltas.push({ at, delta: entry.delta })
      if (typeof entry.base === 'string') return this.#apply(this.#store.read(entry.base), deltas)
      at = entry.base
    }
  }

  #apply(base: GitObject, deltas: { at: number; delta: Buffer }[]): GitObject {
    let object = base
    for (const { at, delta } of deltas.toReversed()) {
      object = this.#remember(at, {
        type: base.type,
        data: applyDelta(object.data, delta, this.#store.maxBytes),
      })
    }
    return object
  }

  #remember(offset: number, object: GitObject): GitObject {
    if (object.data.length > CACHE_BYTES / 8) return object
    this.#cached += object.data.length
    this.#cache.set(offset, object)
    for (const [key, old] of this.#cache) {
      if (this.#cached <= CACHE_BYTES) break
      this.#cache.delete(key)
      this.#cached -= old.data.length
    }
    return object
  }

  #entry(offset: number): GitObject | { base: number | string; delta: Buffer } {
    const { size, base, type, length } = this.#head(offset)
    if (size > this.#store.maxBytes) throw new ObjectSizeError('an object is too large')
    const data = this.#inflate(offset + length, size)
    if (base !== null) return { base, delta: data }
    if (!type) throw new ObjectError('a pack holds an object of no known type')
    return { type, data }
  }

  #head(offset: number): EntryHead {
    return parseEntryHead(this.#pread(offset, ENTRY_HEAD_BYTES), offset)
  }

  /** How long the compressed form is isn't known: reads a guess and more when that was too little. */
  #inflate(offset: number, size: number): Buffer {
    for (let guess = Math.max(512, Math.ceil(size * 0.6)); ; guess *= 4) {
      const raw = this.#pread(offset, guess)
      try {
        const data = inflateSync(raw, { maxOutputLength: size + 1 })
        if (data.length !== size) throw new ObjectError('an object is not as long as it says')
        return data
      } catch (error) {
        const more =
          (error as NodeJS.ErrnoException).code === 'Z_BUF_ERROR' && offset + raw.length < this.#size
        if (!more)
          throw error instanceof ObjectError
            ? error
            : new ObjectError(`an object is broken: ${String(error)}`)
      }
    }
  }

  #pread(offset: number, length: number): Buffer {
    const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(length, this.#size - offset)))
    let filled = 0
    while (filled < buffer.length) {
      const count = readSync(this.#fd, buffer, filled, buffer.length - filled, offset + filled)
      if (count === 0) break
      filled += count
    }
    return buffer.subarray(0, filled)
  }
}

function opened(reader: FileReader, path: string): number {
  const fd = reader.open(path)
  if (fd === null) throw new ObjectError(`${path} can't be read`)
  return fd
}

/** A whole file's bytes; closes it. */
function readAll(fd: number, maxBytes: number): Buffer {
  try {
    if (fstatSync(fd).size > maxBytes) throw new ObjectSizeError('a file of the repository is too large')
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** Rebuilds an object from its base and a delta as git packs hold it. @throws ObjectError when they don't fit */
export function applyDelta(base: Buffer, delta: Buffer, maxBytes: number): Buffer {
  let at = 0
  const next = () => delta[at++] ?? 0
  const size = () => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = next()
      value += (byte & 0x7f) * scale
      if (!(byte & 0x80)) return value
    }
  }
  if (size() !== base.length) throw new ObjectError('a delta is for another object')
  const total = size()
  if (total > maxBytes) throw new ObjectSizeError('an object is too large')
  const result = Buffer.allocUnsafe(total)
  let filled = 0
  while (at < delta.length) {
    const op = next()
    if (op & 0x80) {
      let [from, length] = [0, 0]
      for (let bit = 0; bit < 4; bit += 1) if (op & (1 << bit)) from += next() * 2 ** (8 * bit)
      for (let bit = 0; bit < 3; bit += 1) if (op & (16 << bit)) length += next() * 2 ** (8 * bit)
      if (length === 0) length = 0x10000
      if (from + length > base.length || filled + length > total)
        throw new ObjectError('a delta reaches too far')
      base.copy(result, filled, from, from + length)
      filled += length
    } else {
      if (op === 0 || at + op > delta.length || filled + op > total)
        throw new ObjectError('a delta is broken')
      delta.copy(result, filled, at, at + op)
      at += op
      filled += op
    }
  }
  if (filled !== total) throw new ObjectError('a delta is too short')
  return result
}
