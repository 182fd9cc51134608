import type { BigIntStats } from 'node:fs'
import { constants, type FileHandle, lstat, open, readdir, readlink } from 'node:fs/promises'
import { END_OF_ARCHIVE, encodeHeader, padding, type TarHeader, type TarType } from './tar-header.js'

const READ_BYTES = 256 * 1024
/** So many bytes go on their way at a time, or a thousand small files would be two thousand writes. */
const BATCH_BYTES = 256 * 1024

/** A folder of the worker's disk and what it is called in the archive. */
export interface PackedFolder {
  readonly path: string
  readonly name: string
}

/**
 * Reads folders as one tar archive: owner, mode, links and modification times as they are on the disk, names as bytes.
 * An entry that comes later replaces an earlier one of the same name. Reads on only as fast as it is read.
 *
 * @throws Error when a file is not what it was when it was looked at
 */
export async function* pack(
  folders: readonly PackedFolder[],
  signal: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  yield* batch(packAll(folders, signal))
}

async function* packAll(folders: readonly PackedFolder[], signal: AbortSignal): AsyncGenerator<Buffer> {
  for (const { path, name } of folders) {
    yield* packEntry({ path: Buffer.from(path).toString('latin1'), name }, signal)
  }
  yield END_OF_ARCHIVE
}

/** An entry and, for a folder, all below it. Paths are bytes, held as latin1. */
async function* packEntry({ path, name }: PackedFolder, signal: AbortSignal): AsyncGenerator<Buffer> {
  const pending = [{ path, name }]
  for (let next = pending.pop(); next; next = pending.pop()) {
    signal.throwIfAborted()
    const at = Buffer.from(next.path, 'latin1')
    const stat = await lstat(at, { bigint: true })
    if (stat.isFile()) {
      yield* packFile(at, next.name)
      continue
    }
    yield encodeHeader(await headerOf(at, next.name, stat))
    if (!stat.isDirectory()) continue
    const names = await readdir(at, 'buffer')
    for (const each of names.map(one => one.toString('latin1')).toReversed()) {
      pending.push({ path: `${next.path}/${each}`, name: `${next.name}/${each}` })
    }
  }
}

async function* packFile(at: Buffer, name: string): AsyncGenerator<Buffer> {
  const file = await open(at, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const stat = await file.stat({ bigint: true })
    const header = await headerOf(at, name, stat)
    yield encodeHeader(header)
    yield* contentOf(file, header)
    yield padding(header.size)
  } finally {
    await file.close()
  }
}

async function* contentOf(file: FileHandle, { name, size }: TarHeader): AsyncGenerator<Buffer> {
  for (let at = 0; at < size; ) {
    const length = Math.min(READ_BYTES, size - at)
    const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(length), 0, length, at)
    if (bytesRead === 0) throw new Error(`${name} became shorter while it was read`)
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}

async function headerOf(at: Buffer, name: string, stat: BigIntStats): Promise<TarHeader> {
  const type = typeOf(stat)
  if (type === null) throw new Error(`${name} is neither a file nor a folder nor a link`)
  return {
    type,
    name,
    link: type === 'symlink' ? (await readlink(at, 'buffer')).toString('latin1') : '',
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: type === 'file' ? Number(stat.size) : 0,
    mtimeNs: stat.mtimeNs,
  }
}

function typeOf(stat: BigIntStats): TarType | null {
  if (stat.isFile()) return 'file'
  if (stat.isDirectory()) return 'folder'
  return stat.isSymbolicLink() ? 'symlink' : null
}

async function* batch(parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = []
  let bytes = 0
  for await (const part of parts) {
    waiting.push(part)
    bytes += part.length
    if (bytes < BATCH_BYTES) continue
    yield Buffer.concat(waiting)
    waiting = []
    bytes = 0
  }
  yield Buffer.concat(waiting)
}
