import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readdir, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Entry } from './entry.js'
import { removeTree } from './remove-tree.js'

/** What `meta.json` of an entry says; written by whoever made it. */
export interface CacheMeta {
  /** Of the layout; an entry of another one is not used any more. */
  readonly format: number
  /** The repository's address without credentials; null for what comes from none. */
  readonly url: string | null
  /** Set when only this tenant may use it. */
  readonly tenant: string | null
  readonly commit?: string | null
  readonly ref?: string | null
  readonly depth?: number
  readonly uid?: number
  /** What it occupies on the disk. Absent where it grows: then its packs are counted. */
  readonly bytes?: number
}

export interface CacheItem {
  readonly kind: 'repository' | 'snapshot'
  /** Stable, short, and unique within the data folder. */
  readonly id: string
  readonly path: string
  readonly bytes: number
  /** Milliseconds since 1970. */
  readonly lastUsed: number
  /** How many slots and builds use it now. */
  readonly users: number
  /** Null for an entry that can't be read. */
  readonly meta: CacheMeta | null
}

export interface CacheBudget {
  /** The entries may occupy this much. */
  readonly maxBytes: number
  /** The file system shall have at least this much free. */
  readonly minFreeBytes: number
}

export interface Pruned {
  readonly removed: readonly CacheItem[]
  /** What is occupied now, in bytes. */
  readonly bytes: number
  /** What is free now, in bytes. */
  readonly freeBytes: number
}

/**
 * The cache of a data folder: `repositories/<repository>` with what was fetched, and `snapshots/<repository>/<variant>`
 * with what was checked out. Any number of workers and commands may use it at once.
 */
export class Cache {
  readonly #dataDir: string

  constructor(dataDir: string) {
    this.#dataDir = dataDir
  }

  get repositories(): string {
    return join(this.#dataDir, 'repositories')
  }

  get snapshots(): string {
    return join(this.#dataDir, 'snapshots')
  }

  entry(path: string): Entry {
    return new Entry(this.#dataDir, path)
  }

  /** Everything that is whole, most recently used first. */
  async list(): Promise<CacheItem[]> {
    const items: (CacheItem | null)[] = []
    for (const path of await below(this.repositories)) items.push(await this.#item('repository', path))
    for (const folder of await below(this.snapshots, 'staging')) {
      for (const path of await below(folder)) items.push(await this.#item('snapshot', path))
    }
    return items.filter(item => item !== null).toSorted((a, b) => b.lastUsed - a.lastUsed)
  }

  /** What all entries occupy, in bytes. */
  async bytes(): Promise<number> {
    return (await this.list()).reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** Removes one entry. @returns false when it is in use or gone */
  async remove(item: CacheItem): Promise<boolean> {
    try {
      return await this.entry(item.path).evict()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
      throw error
    }
  }

  /** Removes what was not used for longest, until the budget is kept or nothing unused is left. */
  async prune({ maxBytes, minFreeBytes }: CacheBudget): Promise<Pruned> {
    const items = await this.list()
    let bytes = items.reduce((sum, item) => sum + item.bytes, 0)
    let freeBytes = await this.freeBytes()
    const removed: CacheItem[] = []
    for (const item of items.toReversed()) {
      if (bytes <= maxBytes && freeBytes >= minFreeBytes) break
      if (item.users > 0 || !(await this.remove(item))) continue
      removed.push(item)
      bytes -= item.bytes
      freeBytes = await this.freeBytes()
    }
    return { removed, bytes, freeBytes }
  }

  /** What an unprivileged program may still write to the data folder's file system, in bytes. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(await existing(this.#dataDir))
    return bavail * bsize
  }

  /** Removes for good what was set aside for removal by processes that died before they came to it. */
  async emptyTrash(): Promise<void> {
    for (const path of await below(join(this.#dataDir, 'trash'))) await removeTree(path)
  }

  async #item(kind: CacheItem['kind'], path: string): Promise<CacheItem | null> {
    const entry = this.entry(path)
    const lastUsed = await entry.lastUsed()
    if (lastUsed === null) return null
    const meta = readMeta(path)
    const users = (await entry.holders()).length
    const bytes = meta?.bytes ?? (await packBytes(path))
    return { kind, id: idOf(kind, path), path, bytes, lastUsed, users, meta }
  }
}

/** What `meta.json` says; null when it can't be read. */
export function readMeta(path: string): CacheMeta | null {
  try {
    return JSON.parse(readFileSync(join(path, 'meta.json'), 'utf8')) as CacheMeta
  } catch {
    return null
  }
}

function idOf(kind: CacheItem['kind'], path: string): string {
  return kind[0] + createHash('sha256').update(path).digest('hex').slice(0, 11)
}

async function packBytes(path: string): Promise<number> {
  let bytes = 0
  for (const file of await below(join(path, 'objects/pack'))) {
    bytes += (await stat(file).catch(() => ({ size: 0 }))).size
  }
  return bytes
}

async function below(folder: string, ...except: string[]): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  return names.filter(name => !except.includes(name)).map(name => join(folder, name))
}

/** A data folder that is not made yet is on the disk of the folder that it will be made in. */
async function existing(folder: string): Promise<string> {
  const there = await stat(folder).catch(() => null)
  return there || dirname(folder) === folder ? folder : existing(dirname(folder))
}
