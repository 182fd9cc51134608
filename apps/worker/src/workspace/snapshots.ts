import { createHash, randomUUID } from 'node:crypto'
import { statSync } from 'node:fs'
import { mkdir, readdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Cache, type CacheMeta, readMeta, type Unpin } from '@agirunner/cache'
import type { Owner } from '../engine/labels.js'
import { withFileLock } from '../support/file-lock.js'
import { isAlive } from '../support/identity.js'
import { type Share, SharedWork } from '../support/shared-work.js'
import type { CacheKeeper } from './cache-keeper.js'
import type { NotFetched } from './git/checkout.js'
import type { CheckoutResult } from './git/snapshot-job.js'
import { removeTree } from './remove-tree.js'

/** Names one snapshot. Everything that makes its bytes differ is in it. */
export interface SnapshotKey {
  /** Null for the repository without a commit and without a remote. */
  readonly url: string | null
  /** Set for repositories that needed credentials: another tenant must ask for itself. */
  readonly tenant: string | null
  readonly commit: string | null
  readonly ref: string | null
  readonly depth: number
  readonly uid: number
}

export interface Snapshot {
  readonly key: SnapshotKey
  /** The tree with its `.git`. */
  readonly repo: string
  /** What the commit names and a clone does not bring. */
  readonly notFetched: NotFetched
  /** Ends this slot's use of it; repeatable. */
  readonly unpin: Unpin
}

export type BuildOptions = Share

/**
 * Fills an empty folder with the tree and its `.git`.
 *
 * @param holder the folder on whose behalf a pin of the repository is, relative to the data folder
 */
export type Build = (dir: string, holder: string, options: BuildOptions) => Promise<CheckoutResult>

interface SnapshotMeta extends CacheMeta {
  readonly notFetched: NotFetched
}

/** Changes when an older worker's snapshots must not be used any more. */
const FORMAT = 2
const STAGING = 'snapshots/staging'

/**
 * Checked-out commits, below `snapshots/<repository>/<commit>-<variant>`. Each is built aside and published by one
 * rename, so that it is either whole or not there; of several workers that want the same one, one builds it.
 */
export class Snapshots {
  readonly #cache: Cache
  readonly #keeper: CacheKeeper
  readonly #dataDir: string
  readonly #worker: Owner
  readonly #builds = new SharedWork<void>()
  /** How often a workspace was made from what was there, and how often not. */
  readonly counts = { hits: 0, misses: 0 }

  constructor(dataDir: string, cache: Cache, keeper: CacheKeeper, worker: Owner) {
    this.#dataDir = dataDir
    this.#cache = cache
    this.#keeper = keeper
    this.#worker = worker
  }

  /**
   * Pins a snapshot, building it first where needed. Whoever asks for the same one meanwhile shares the build; it is
   * given up when all of them have.
   *
   * @param slot the id of the slot that uses it
   */
  async obtain(key: SnapshotKey, slot: string, build: Build, options: BuildOptions): Promise<Snapshot> {
    const path = this.#path(key)
    const known = this.#find(key, path, slot)
    if (known) {
      this.counts.hits += 1
      return known
    }
    this.counts.misses += 1
    // Whoever builds it has pinned it; who only waited for the build may find it evicted again, if seldom.
    for (let tries = 0; tries < MAX_BUILDS; tries += 1) {
      await this.#builds.join(path, inner => this.#buildLocked(key, path, slot, build, inner), options)
      const found = this.#find(key, path, slot)
      if (found) return found
    }
    throw new Error(`a snapshot vanished ${MAX_BUILDS} times while it was made: ${path}`)
  }

  /** Removes what dead workers of this machine left half-built. */
  async sweep(): Promise<void> {
    const staging = join(this.#dataDir, STAGING)
    const names = await readdir(staging).catch(() => [])
    for (const name of names) {
      const [host, worker] = name.split('.')
      if (host === this.#worker.host && worker !== undefined && !isAlive(worker))
        await removeTree(join(staging, name))
    }
  }

  #find(key: SnapshotKey, path: string, slot: string): Snapshot | null {
    const meta = readWhole(path)
    if (meta === null) return null
    const entry = this.#cache.entry(path)
    const unpin = entry.pin(holderOf(slot))
    if (unpin === null) return null
    return {
      key,
      repo: join(path, 'repo'),
      notFetched: meta.notFetched,
      unpin: async () => {
        await entry.touch()
        await unpin()
      },
    }
  }

  #path(key: SnapshotKey): string {
    const variant = `${key.uid}-${key.depth}-${hash(key.ref ?? '').slice(0, 12)}`
    return join(
      this.#cache.snapshots,
      repositoryId(key.url, key.tenant),
      `${key.commit ?? 'empty'}-${variant}`,
    )
  }

  /** One worker builds it; the others wait. */
  async #buildLocked(
    key: SnapshotKey,
    path: string,
    slot: string,
    build: Build,
    options: BuildOptions,
  ): Promise<void> {
    const lock = join(this.#dataDir, 'locks', `${hash(path).slice(0, 32)}.lock`)
    const work = () => this.#build(key, path, slot, build, options)
    await withFileLock(lock, this.#worker, options.signal, work)
  }

  async #build(
    key: SnapshotKey,
    path: string,
    slot: string,
    build: Build,
    options: BuildOptions,
  ): Promise<void> {
    // Another worker may have been quicker to the lock.
    if (readWhole(path) !== null) return
    const holder = `${STAGING}/${this.#worker.host}.${this.#worker.worker}.${randomUUID()}`
    const staging = join(this.#dataDir, holder)
    await this.#keeper.makeRoom()
    try {
      await mkdir(join(staging, 'pins'), { recursive: true, mode: 0o711 })
      await mkdir(join(staging, 'repo'), { mode: 0o755 })
      const made = await build(join(staging, 'repo'), holder, options)
      options.signal.throwIfAborted()
      await writeFile(join(staging, 'meta.json'), JSON.stringify(metaOf(key, made)))
      // Published in use, so that no eviction comes between.
      this.#cache.entry(staging).pin(holderOf(slot))
      await this.#publish(staging, path)
      this.#keeper.soon()
    } finally {
      await removeTree(staging)
    }
  }

  async #publish(staging: string, path: string): Promise<void> {
    await mkdir(join(path, '..'), { recursive: true, mode: 0o711 })
    try {
      await rename(staging, path)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR') throw error
      if (readWhole(path) !== null) return
      // What is broken is set aside; a build that is still in use keeps its files until then.
      const aside = `${staging}.aside`
      await rename(path, aside)
      await rename(staging, path)
      await removeTree(aside)
    }
  }
}

const MAX_BUILDS = 3

/** Names a repository of the cache: one per address, and one per tenant where it takes credentials to read it. */
export function repositoryId(url: string | null, tenant: string | null): string {
  return url === null ? 'empty' : hash(url, tenant ?? '').slice(0, 32)
}

const holderOf = (slot: string) => `slots/${slot}`

function metaOf({ url, tenant, commit, ref, depth, uid }: SnapshotKey, made: CheckoutResult): SnapshotMeta {
  return { format: FORMAT, url, tenant, commit, ref, depth, uid, ...made }
}

function readWhole(path: string): SnapshotMeta | null {
  try {
    const meta = readMeta(path) as SnapshotMeta | null
    if (meta?.format !== FORMAT) return null
    const parts = ['repo/.git/HEAD', 'repo/.git/config', 'pins'].map(part => statSync(join(path, part)))
    return parts.every(part => part.isDirectory() || part.size > 0) ? meta : null
  } catch {
    return null
  }
}

function hash(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}
