import { createHash, randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Owner } from '../engine/labels.js'
import { isAlive } from '../support/identity.js'
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
  /** Ends this slot's use of it; repeatable. */
  unpin(): Promise<void>
}

/** Fills an empty folder with the tree and its `.git`. */
export type Build = (
  dir: string,
  options: { signal: AbortSignal; progress: (data: Record<string, unknown>) => void },
) => Promise<void>

interface Flight {
  readonly controller: AbortController
  readonly listeners: Set<(data: Record<string, unknown>) => void>
  readonly done: Promise<void>
}

/** Changes when an older worker's snapshots must not be used any more. */
const FORMAT = 2

/**
 * Checked-out commits, below `snapshots/<repository>/<commit>-<variant>`. Each is built aside and published by one
 * rename, so that it is either whole or not there, also between workers; in use it holds a pin per slot.
 */
export class Snapshots {
  readonly #root: string
  readonly #worker: Owner
  readonly #flights = new Map<string, Flight>()

  constructor(dataDir: string, worker: Owner) {
    this.#root = join(dataDir, 'snapshots')
    this.#worker = worker
  }

  /** Pins a snapshot that is there; null when it isn't. */
  async find(key: SnapshotKey, slot: string): Promise<Snapshot | null> {
    const entry = this.#entry(key)
    if (!(await isWhole(entry))) return null
    const pin = join(entry, 'pins', slot)
    try {
      await writeFile(pin, JSON.stringify(this.#worker), { mode: 0o600 })
    } catch {
      return null
    }
    return { key, repo: join(entry, 'repo'), unpin: () => rm(pin, { force: true }) }
  }

  /**
   * Pins a snapshot, building it first where needed. Whoever asks for the same one meanwhile shares the build; it is
   * given up when all of them have.
   */
  async obtain(
    key: SnapshotKey,
    slot: string,
    build: Build,
    options: Parameters<Build>[1],
  ): Promise<Snapshot> {
    // Twice, because an eviction may come between the build and the pin.
    for (let tries = 0; ; tries += 1) {
      const found = await this.find(key, slot)
      if (found) return found
      if (tries === 2) throw new Error(`a snapshot vanished while it was made: ${this.#entry(key)}`)
      await this.#join(key, build, options)
    }
  }

  /** Removes what dead workers of this machine left half-built. */
  async sweep(): Promise<void> {
    const staging = join(this.#root, 'staging')
    const names = await readdir(staging).catch(() => [])
    for (const name of names) {
      const [host, worker] = name.split('.')
      if (host === this.#worker.host && worker !== undefined && !isAlive(worker))
        await removeTree(join(staging, name))
    }
  }

  #entry(key: SnapshotKey): string {
    const repository = key.url === null ? 'empty' : hash(key.url, key.tenant ?? '').slice(0, 32)
    const variant = `${key.uid}-${key.depth}-${hash(key.ref ?? '').slice(0, 12)}`
    return join(this.#root, repository, `${key.commit ?? 'empty'}-${variant}`)
  }

  async #join(key: SnapshotKey, build: Build, { signal, progress }: Parameters<Build>[1]): Promise<void> {
    const entry = this.#entry(key)
    const flight = this.#flights.get(entry) ?? this.#launch(key, entry, build)
    flight.listeners.add(progress)
    const leave = () => {
      flight.listeners.delete(progress)
      if (flight.listeners.size > 0) return
      if (this.#flights.get(entry) === flight) this.#flights.delete(entry)
      flight.controller.abort(signal.reason)
    }
    try {
      await untilAborted(flight.done, signal)
    } finally {
      leave()
    }
  }

  #launch(key: SnapshotKey, entry: string, build: Build): Flight {
    const controller = new AbortController()
    const listeners: Flight['listeners'] = new Set()
    const progress = (data: Record<string, unknown>) => {
      for (const listener of listeners) listener(data)
    }
    const done = this.#build(key, entry, build, { signal: controller.signal, progress }).finally(() => {
      if (this.#flights.get(entry)?.controller === controller) this.#flights.delete(entry)
    })
    done.catch(() => undefined)
    const flight = { controller, listeners, done }
    this.#flights.set(entry, flight)
    return flight
  }

  async #build(key: SnapshotKey, entry: string, build: Build, options: Parameters<Build>[1]): Promise<void> {
    const staging = join(this.#root, 'staging', `${this.#worker.host}.${this.#worker.worker}.${randomUUID()}`)
    try {
      await mkdir(join(staging, 'pins'), { recursive: true, mode: 0o711 })
      await mkdir(join(staging, 'repo'), { mode: 0o755 })
      await build(join(staging, 'repo'), options)
      options.signal.throwIfAborted()
      const meta = { format: FORMAT, commit: key.commit, ref: key.ref, depth: key.depth, uid: key.uid }
      await writeFile(join(staging, 'meta.json'), JSON.stringify(meta))
      await this.#publish(staging, entry)
    } finally {
      await removeTree(staging)
    }
  }

  async #publish(staging: string, entry: string): Promise<void> {
    await mkdir(join(entry, '..'), { recursive: true, mode: 0o711 })
    try {
      await rename(staging, entry)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOTDIR') throw error
      // Another worker was first; then theirs is as good. What is broken is set aside for the sweep.
      if (await isWhole(entry)) return
      const aside = `${staging}.aside`
      await rename(entry, aside)
      await rename(staging, entry)
      await removeTree(aside)
    }
  }
}

async function isWhole(entry: string): Promise<boolean> {
  try {
    const meta = JSON.parse(await readFile(join(entry, 'meta.json'), 'utf8')) as { format?: unknown }
    const parts = await Promise.all(
      ['repo/.git/HEAD', 'repo/.git/config', 'pins'].map(part => stat(join(entry, part))),
    )
    return meta.format === FORMAT && parts.every(part => part.isDirectory() || part.size > 0)
  } catch {
    return false
  }
}

function hash(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}

/** Waits for `work`, but no longer than until the signal aborts. */
async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  let aborted: () => void = () => undefined
  const abort = new Promise<never>((_resolve, reject) => {
    aborted = () => reject(signal.reason as Error)
    signal.addEventListener('abort', aborted, { once: true })
  })
  try {
    await Promise.race([work, abort])
  } finally {
    signal.removeEventListener('abort', aborted)
  }
}
