import type { BigIntStats } from 'node:fs'
import { constants, type FileHandle, lstat, open, readdir, readlink } from 'node:fs/promises'
import { END_OF_ARCHIVE, encodeHeader, padding, type TarHeader, type TarType } from './tar-header.js'

const READ_BYTES = 256 * 1024
/** A file up to this size is read in one piece, and so many at a time; what is larger comes by itself. */
const SMALL_BYTES = 32 * 1024
const AT_ONCE = 32
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
    yield* packFolder({ path: Buffer.from(path).toString('latin1'), name }, signal)
  }
  yield END_OF_ARCHIVE
}

/** A folder and all below it, each folder before what is in it. Paths are bytes, held as latin1. */
async function* packFolder(folder: PackedFolder, signal: AbortSignal): AsyncGenerator<Buffer> {
  const pending = [folder]
  for (let next = pending.pop(); next; next = pending.pop()) {
    signal.throwIfAborted()
    const { path, name } = next
    yield await packSmall(path, name, await lstat(bytesOf(path), { bigint: true }))
    const names = (await readdir(bytesOf(path), 'buffer')).map(one => one.toString('latin1'))
    for (let from = 0; from < names.length; from += AT_ONCE) {
      signal.throwIfAborted()
      const some = names.slice(from, from + AT_ONCE)
      const parts = await Promise.all(some.map(one => look(`${path}/${one}`, `${name}/${one}`)))
      for (const part of parts) {
        if (part.kind === 'small') yield part.bytes
        else if (part.kind === 'folder') pending.push(part)
        else yield* packLarge(part)
      }
    }
  }
}

type Part =
  | { readonly kind: 'small'; readonly bytes: Buffer }
  | ({ readonly kind: 'folder' | 'large' } & PackedFolder)

/** What a name is: whole if it is small, because waiting for one small file after the other takes the longest. */
async function look(path: string, name: string): Promise<Part> {
  const stat = await lstat(bytesOf(path), { bigint: true })
  if (stat.isDirectory()) return { kind: 'folder', path, name }
  if (stat.size > SMALL_BYTES) return { kind: 'large', path, name }
  return { kind: 'small', bytes: await packSmall(path, name, stat) }
}

async function packSmall(path: string, name: string, stat: BigIntStats): Promise<Buffer> {
  if (!stat.isFile()) return encodeHeader(await headerOf(path, name, stat))
  const parts: Buffer[] = []
  for await (const part of packLarge({ path, name })) parts.push(part)
  return Buffer.concat(parts)
}

async function* packLarge({ path, name }: PackedFolder): AsyncGenerator<Buffer> {
  const file = await open(bytesOf(path), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const header = await headerOf(path, name, await file.stat({ bigint: true }))
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

async function headerOf(path: string, name: string, stat: BigIntStats): Promise<TarHeader> {
  const type = typeOf(stat)
  if (type === null) throw new Error(`${name} is neither a file nor a folder nor a link`)
  return {
    type,
    name,
    link: type === 'symlink' ? (await readlink(bytesOf(path), 'buffer')).toString('latin1') : '',
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: type === 'file' ? Number(stat.size) : 0,
    mtimeNs: stat.mtimeNs,
  }
}

const bytesOf = (path: string) => Buffer.from(path, 'latin1')

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
