import { randomUUID } from 'node:crypto'
import { lstatSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { removeTree } from './remove-tree.js'

/** A marker this old, in milliseconds, is of somebody who died between two system calls. */
const MARKER_MS = 60_000

/** Ends one use of an entry; repeatable. */
export type Unpin = () => Promise<void>

/**
 * One thing in the cache: a folder with `meta.json`, which is written last, and `pins/`. A pin names the folder below
 * the data folder on whose behalf it is (a slot, a build under way) and holds for as long as that folder is there: what
 * dead workers leave is reaped with its folders, so that their pins need no care of their own.
 *
 * Using and evicting exclude each other without a lock: who pins writes the pin and then looks for an eviction, who
 * evicts writes the marker and then looks for pins. At least one of the two sees the other and steps back.
 */
export class Entry {
  readonly path: string
  readonly #dataDir: string

  /** @param path below `dataDir`, absolute */
  constructor(dataDir: string, path: string) {
    this.#dataDir = dataDir
    this.path = path
  }

  /**
   * Says that it is used from now on. Without leaving the thread: it is on every task's way.
   *
   * @param holder a folder below the data folder, such as `slots/<id>`
   * @returns null when it is not there, or is being evicted right now
   */
  pin(holder: string): Unpin | null {
    const pin = join(this.path, 'pins', encodeURIComponent(holder))
    try {
      writeFileSync(pin, '', { mode: 0o600 })
    } catch {
      return null
    }
    if (!this.#isBeingEvicted()) return () => rm(pin, { force: true })
    rmSync(pin, { force: true })
    return null
  }

  /** Notes that it was used now, for the order of eviction. */
  async touch(): Promise<void> {
    const now = new Date()
    await utimes(join(this.path, 'meta.json'), now, now).catch(() => undefined)
  }

  /** Milliseconds since 1970; null when it is not there. */
  async lastUsed(): Promise<number | null> {
    const at = await stat(join(this.path, 'meta.json')).catch(() => null)
    return at?.mtimeMs ?? null
  }

  /** The folders on whose behalf it is used. Pins whose folder is gone are removed. */
  async holders(): Promise<string[]> {
    const folder = join(this.path, 'pins')
    const held: string[] = []
    for (const name of await readdir(folder).catch(() => [])) {
      const holder = decodeURIComponent(name)
      if (isThere(join(this.#dataDir, holder))) held.push(holder)
      else await rm(join(folder, name), { force: true })
    }
    return held
  }

  /** Removes it. @returns false when it is in use, or somebody else removes it */
  async evict(): Promise<boolean> {
    const marker = join(this.path, 'evicting')
    try {
      await writeFile(marker, '', { flag: 'wx', mode: 0o600 })
    } catch {
      removeIfAbandoned(marker)
      return false
    }
    if ((await this.holders()).length > 0) {
      await rm(marker, { force: true })
      return false
    }
    const trash = join(this.#dataDir, 'trash')
    const aside = join(trash, randomUUID())
    await mkdir(trash, { recursive: true, mode: 0o700 })
    await rename(this.path, aside)
    await removeTree(aside)
    return true
  }

  #isBeingEvicted(): boolean {
    const marker = join(this.path, 'evicting')
    // The way to the entry is looked at as well: after the rename there is neither entry nor marker.
    if (!isThere(join(this.path, 'meta.json'))) return true
    if (!isThere(marker)) return false
    removeIfAbandoned(marker)
    return isThere(marker)
  }
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

function removeIfAbandoned(marker: string): void {
  const at = lstatSync(marker, { throwIfNoEntry: false })
  if (at && Date.now() - at.mtimeMs > MARKER_MS) rmSync(marker, { force: true })
}
