import { constants, type FileHandle, link, lstat, mkdir, open, symlink } from 'node:fs/promises'
import { TaskFailure } from '@agirunner/contracts'
import { readTar, type TarEntry } from './read-tar.js'
import { TarError, type TarHeader } from './tar-header.js'

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants
/** A file up to this size is taken in one piece, and so many are written at a time. In bytes. */
const SMALL_BYTES = 32 * 1024
const AT_ONCE = 32

/** What an archive may hold at most before reading it is given up. */
export interface UnpackLimits {
  /** As they arrive, the zeros of sparse files among them; in bytes. */
  readonly receivedBytes: number
  /** As they are written to our disk. */
  readonly writtenBytes: number
  readonly entries: number
  /** Of a larger file only the size is kept, without its bytes: nobody reads so large a one. `.git` is excepted. */
  readonly hollowBytes: number
}

export const UNPACK_LIMITS: UnpackLimits = {
  receivedBytes: 16 * 2 ** 30,
  writtenBytes: 4 * 2 ** 30,
  entries: 1_000_000,
  hollowBytes: 256 * 2 ** 20,
}

export type SpecialKind = 'fifo' | 'character_device' | 'block_device'

/** Something that is never made on our disk; its path is relative, its bytes held as latin1. */
export interface Special {
  readonly path: string
  readonly kind: SpecialKind
}

/**
 * Unpacks an archive of one folder, which a task filled, so that nothing in it reaches beyond `root`: a name is taken
 * only below folders that this call made itself, nothing that is there is opened again or replaced, and no link is
 * followed. Files lose owner, setuid and all rights but the owner's; devices and FIFOs are not made but told.
 *
 * @param root an empty folder that nobody else writes to
 * @param top the name of the archived folder, with which every entry's name begins
 * @throws TaskFailure `capture.failed` for an archive that breaks a rule or a limit
 */
export async function unpack(
  archive: AsyncIterable<Buffer>,
  options: { root: string; top: string; limits: UnpackLimits; signal: AbortSignal },
): Promise<Special[]> {
  const unpacking = new Unpacking(options)
  try {
    for await (const entry of readTar(counted(archive, options))) await unpacking.take(entry)
    await unpacking.settle()
  } catch (error) {
    await unpacking.settle().catch(() => undefined)
    options.signal.throwIfAborted()
    throw asCaptureFailure(error)
  }
  return unpacking.specials
}

function asCaptureFailure(error: unknown): TaskFailure {
  if (error instanceof TaskFailure) return error
  const message = error instanceof Error ? error.message : String(error)
  return new TaskFailure('capture.failed', `what the task left can't be read back; ${message}`, {
    phase: 'capture',
    cause: error,
  })
}

async function* counted(
  archive: AsyncIterable<Buffer>,
  { limits, signal }: { limits: UnpackLimits; signal: AbortSignal },
): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of archive) {
    signal.throwIfAborted()
    bytes += chunk.length
    if (bytes > limits.receivedBytes) throw new TarError(`it is larger than ${limits.receivedBytes} bytes`)
    yield chunk
  }
}

class Unpacking {
  readonly specials: Special[] = []
  readonly #root: string
  readonly #top: string
  readonly #limits: UnpackLimits
  /** The folders that this made; the root is ''. */
  readonly #folders = new Set<string>()
  readonly #special = new Map<string, SpecialKind>()
  /** Small files that are being written. */
  readonly #writing = new Set<Promise<void>>()
  #entries = 0
  #written = 0
  #failed: { readonly error: unknown } | null = null

  constructor({ root, top, limits }: { root: string; top: string; limits: UnpackLimits }) {
    this.#root = Buffer.from(root).toString('latin1')
    this.#top = top
    this.#limits = limits
  }

  async take(entry: TarEntry): Promise<void> {
    const { header } = entry
    this.#entries += 1
    if (this.#entries > this.#limits.entries)
      throw new TarError(`it holds more than ${this.#limits.entries} entries`)
    const path = this.#pathOf(header.name)
    if (path === '') return this.#takeRoot(header)
    if (!this.#folders.has(folderOf(path)))
      throw new TarError(`${shown(path)} is in no folder of the archive`)
    await this.#make(path, entry)
  }

  /** Resolves when nothing is being written any more. @throws the first thing that went wrong with a small file */
  async settle(): Promise<void> {
    await Promise.all(this.#writing)
    if (this.#failed) throw this.#failed.error
  }

  #takeRoot({ type }: TarHeader): void {
    if (type !== 'folder') throw new TarError('it is no archive of a folder')
    this.#folders.add('')
  }

  async #make(path: string, entry: TarEntry): Promise<void> {
    const { type, link: target } = entry.header
    switch (type) {
      case 'file':
        return await this.#makeFile(path, entry)
      case 'folder':
        await mkdir(this.#at(path), { mode: 0o700 })
        this.#folders.add(path)
        return
      case 'symlink':
        return await symlink(Buffer.from(target, 'latin1'), this.#at(path))
      case 'hardlink':
        return await this.#makeHardLink(path, this.#pathOf(target))
      case 'character_device':
      case 'block_device':
      case 'fifo':
        this.#note(path, type)
    }
  }

  async #makeFile(path: string, { header, content }: TarEntry): Promise<void> {
    if (header.size > this.#limits.hollowBytes && !path.startsWith('.git/')) {
      return await this.#write(path, header, file => file.truncate(header.size))
    }
    this.#written += header.size
    if (this.#written > this.#limits.writtenBytes) {
      throw new TarError(`its files hold more than ${this.#limits.writtenBytes} bytes`)
    }
    if (header.size <= SMALL_BYTES) return await this.#makeSmall(path, header, content())
    await this.#write(path, header, async file => {
      for await (const chunk of content()) await writeAll(file, chunk)
    })
  }

  /** Goes on to the next entry while this one is written: one after the other, small files take the longest. */
  async #makeSmall(path: string, header: TarHeader, content: AsyncIterable<Buffer>): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of content) chunks.push(Buffer.from(chunk))
    while (this.#writing.size >= AT_ONCE) await Promise.race(this.#writing)
    if (this.#failed) throw this.#failed.error
    const writing = this.#write(path, header, file => writeAll(file, Buffer.concat(chunks)))
      .catch((error: unknown) => {
        this.#failed ??= { error }
      })
      .finally(() => this.#writing.delete(writing))
    this.#writing.add(writing)
  }

  async #write(path: string, { mode }: TarHeader, fill: (file: FileHandle) => Promise<void>): Promise<void> {
    const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW
    const file = await open(this.#at(path), flags, mode & 0o100 ? 0o700 : 0o600)
    try {
      await fill(file)
    } finally {
      await file.close()
    }
  }

  /** Only to what this made itself; making a hard link follows no symlink. */
  async #makeHardLink(path: string, target: string): Promise<void> {
    await this.settle()
    const kind = this.#special.get(target)
    if (kind !== undefined) return this.#note(path, kind)
    if (!this.#folders.has(folderOf(target)))
      throw new TarError(`${shown(path)} is a link to what is not in it`)
    const stat = await lstat(this.#at(target))
    if (!stat.isFile() && !stat.isSymbolicLink()) throw new TarError(`${shown(path)} is a link to no file`)
    await link(this.#at(target), this.#at(path))
  }

  #note(path: string, kind: SpecialKind): void {
    this.#special.set(path, kind)
    this.specials.push({ path, kind })
  }

  /** A name without the archived folder's; '' for that folder itself. */
  #pathOf(name: string): string {
    const [top, ...parts] = name.split('/')
    const isPlain = parts.every(part => part !== '' && part !== '.' && part !== '..' && !part.includes('\0'))
    if (top !== this.#top || !isPlain) throw new TarError(`${shown(name)} is no name below "${this.#top}"`)
    return parts.join('/')
  }

  #at(path: string): Buffer {
    return Buffer.from(`${this.#root}/${path}`, 'latin1')
  }
}

async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at)).bytesWritten
}

function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')))
}

function shown(path: string): string {
  return JSON.stringify(Buffer.from(path.slice(0, 200), 'latin1').toString('utf8'))
}
