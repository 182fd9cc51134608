import { createHash } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { deflateSync } from 'node:zlib'
import { type ObjectStore, OFS_DELTA, type RawEntry, renderEntryHead } from './objects.js'

const BUFFER_BYTES = 2 ** 20

/**
 * Writes a pack of exactly these objects, each as it lies in the store's packs where that can be: whole objects and
 * deltas on another of them are copied as they are compressed; only a delta whose base stays behind is unfolded.
 *
 * @param path of the new pack; its index is made by `indexPack`
 */
export function writePack(store: ObjectStore, oids: ReadonlySet<string>, path: string): void {
  const file = new PackOutput(path)
  try {
    const head = Buffer.alloc(12)
    head.write('PACK')
    head.writeUInt32BE(2, 4)
    head.writeUInt32BE(oids.size, 8)
    file.write(head)
    // In the order of the old packs, where a base comes before what lies on it.
    const entries = [...oids].map(oid => ({ oid, raw: store.raw(oid) }))
    entries.sort((a, b) => placeOf(a.raw) - placeOf(b.raw))
    const moved = new Map<string, number>()
    for (const { oid, raw } of entries) {
      const at = file.size
      if (raw) moved.set(keyOf(raw.pack, raw.offset), at)
      file.write(render(store, oids, oid, raw, at, moved))
    }
  } finally {
    file.end()
  }
}

/** Packs are compared first; an offset is far below 2^44. */
const placeOf = (raw: RawEntry | null) => (raw ? raw.pack * 2 ** 44 + raw.offset : Number.MAX_SAFE_INTEGER)
const keyOf = (pack: number, offset: number) => `${pack}:${offset}`

function render(
  store: ObjectStore,
  oids: ReadonlySet<string>,
  oid: string,
  raw: RawEntry | null,
  at: number,
  moved: ReadonlyMap<string, number>,
): Buffer {
  if (raw && (raw.base === null || (typeof raw.base === 'string' && oids.has(raw.base)))) {
    return Buffer.concat([raw.head, raw.compressed()])
  }
  const base = raw && typeof raw.base === 'number' ? moved.get(keyOf(raw.pack, raw.base)) : undefined
  if (raw && base !== undefined) {
    return Buffer.concat([renderEntryHead(OFS_DELTA, raw.size), renderBack(at - base), raw.compressed()])
  }
  const { type, data } = store.read(oid)
  return Buffer.concat([renderEntryHead(type, data.length), deflateSync(data)])
}

/** How far back a delta's base lies, as git packs write it. */
function renderBack(distance: number): Buffer {
  const bytes = [distance & 0x7f]
  for (let rest = Math.floor(distance / 128); rest > 0; rest = Math.floor(rest / 128)) {
    rest -= 1
    bytes.unshift(0x80 | (rest & 0x7f))
  }
  return Buffer.from(bytes)
}

class PackOutput {
  readonly #fd: number
  readonly #hash = createHash('sha1')
  #pending: Buffer[] = []
  #pendingBytes = 0
  size = 0

  constructor(path: string) {
    this.#fd = openSync(path, 'wx', 0o600)
  }

  write(bytes: Buffer): void {
    this.#pending.push(bytes)
    this.#pendingBytes += bytes.length
    this.size += bytes.length
    if (this.#pendingBytes >= BUFFER_BYTES) this.#flush()
  }

  /** Writes the trailer and closes. */
  end(): void {
    try {
      this.#flush()
      writeAll(this.#fd, this.#hash.digest())
    } finally {
      closeSync(this.#fd)
    }
  }

  #flush(): void {
    const bytes = Buffer.concat(this.#pending)
    this.#hash.update(bytes)
    writeAll(this.#fd, bytes)
    this.#pending = []
    this.#pendingBytes = 0
  }
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written)
}
