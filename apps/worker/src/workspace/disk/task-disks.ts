import { statfsSync } from 'node:fs'
import { mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { freeBytes } from '../../support/free-bytes.js'
import { MOUNT, mount, unmount } from '../../support/libc.js'
import type { Releasable } from '../../support/lifecycle.js'
import { mountsIn } from '../../support/mounts.js'
import { makeDiskImage, mountDisk, unmountDisk } from './disk-image.js'

/** Below the data folder: one folder for each worker, in it one for each slot's disk. */
const DISKS = 'disks'

export interface DiskUsage {
  /** What the task's files occupy. */
  readonly bytes: number
  /** Whether there is no room for one more block, or for one more file. */
  readonly full: boolean
}

/** A file system of a task's own, of the size that the task may use. */
export interface TaskDisk extends Releasable {
  /** Everything that the task writes lies below. */
  readonly folder: string
  /** What was there and is not the task's, in bytes. */
  readonly before: number
  /** From now on, what is there counts as not the task's. */
  begin(): void
  usage(): DiskUsage
}

/** One is kept ready for each of so many sizes. */
const MAX_SPARES = 2
/** A spare must leave so many times its size free: it is a convenience, and takes no room from tasks. */
const SPARE_ROOM = 8
/** Removals that may be under way behind everybody's back. */
const MAX_REMOVALS = 8

/** A disk that is mounted, and nobody's yet. */
interface Mounted {
  readonly folder: string
  readonly image: string
}

/**
 * Makes disks for slots. They are mounted below a folder of this worker's own whose mounts every mount namespace hears
 * of: the processes that read changes have their own, and a disk that one of them still had would never be freed.
 *
 * To make one takes longer than everything else about a workspace that was there before, so the next of a size is made
 * when one was taken, and removed ones go behind everybody's back.
 */
export class TaskDisks {
  readonly #folder: string
  readonly #spares = new Map<number, Promise<Mounted | null>>()
  readonly #removals = new Set<Promise<void>>()
  #made = 0
  #closed = false

  /** @throws Error that says why this worker can't mount */
  static async open(dataDir: string, worker: string): Promise<TaskDisks> {
    const folder = join(dataDir, DISKS, worker)
    await mkdir(folder, { recursive: true, mode: 0o711 })
    try {
      await mount(folder, folder, { flags: MOUNT.bind })
      // First private: a parent that is shared would take the mount into its own group.
      await mount('none', folder, { flags: MOUNT.private })
      await mount('none', folder, { flags: MOUNT.shared })
    } catch (error) {
      await unmountDisk(folder).catch(() => undefined)
      await rmdir(folder).catch(() => undefined)
      throw error
    }
    return new TaskDisks(folder)
  }

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** @throws Error (`ENOSPC` in its words when the worker's own disk is full) */
  async make(bytes: number): Promise<TaskDisk> {
    const mounted = (await this.#spare(bytes)) ?? (await this.#mount(bytes))
    this.#prepare(bytes)
    return taskDisk(mounted.folder, () => this.#remove(mounted))
  }

  /** Gives up what nobody uses, so that its room is free. */
  async dropSpares(): Promise<void> {
    const spares = [...this.#spares.values()]
    this.#spares.clear()
    await Promise.all(spares.map(async spare => await removeDisk(await spare)))
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.dropSpares()
    await Promise.all(this.#removals)
    await unmountDisk(this.#folder)
    // What is kept for somebody still has its file here.
    await rmdir(this.#folder).catch(() => undefined)
  }

  async #spare(bytes: number): Promise<Mounted | null> {
    const spare = this.#spares.get(bytes) ?? null
    this.#spares.delete(bytes)
    return await spare
  }

  #prepare(bytes: number): void {
    if (this.#closed || this.#spares.has(bytes) || this.#spares.size >= MAX_SPARES) return
    this.#spares.set(bytes, this.#prepared(bytes))
  }

  async #prepared(bytes: number): Promise<Mounted | null> {
    try {
      return (await freeBytes(this.#folder)) < SPARE_ROOM * bytes ? null : await this.#mount(bytes)
    } catch {
      // Who needs one makes it, and hears why it can't be made.
      return null
    }
  }

  async #mount(bytes: number): Promise<Mounted> {
    this.#made += 1
    const folder = join(this.#folder, this.#made.toString(36))
    const image = `${folder}.img`
    await makeDiskImage(image, bytes)
    try {
      await mountDisk(image, folder)
    } catch (error) {
      await rm(image, { force: true })
      throw error
    }
    return { folder, image }
  }

  async #remove(mounted: Mounted): Promise<void> {
    while (this.#removals.size >= MAX_REMOVALS) await Promise.race(this.#removals)
    // The reaper of a later worker removes what fails here.
    const removal = removeDisk(mounted).catch(() => undefined)
    this.#removals.add(removal)
    void removal.then(() => this.#removals.delete(removal))
  }
}

async function removeDisk(mounted: Mounted | null): Promise<void> {
  if (mounted === null) return
  await unmountDisk(mounted.folder)
  await rmdir(mounted.folder).catch(() => undefined)
  await rm(mounted.image, { force: true })
}

/** A disk that a dead worker made, of a task that goes on. */
export function adoptDisk({ folder, before }: Pick<TaskDisk, 'folder' | 'before'>): TaskDisk {
  return taskDisk(folder, () => reapDisk(folder), before)
}

function taskDisk(folder: string, remove: () => Promise<void>, usedBefore = 0): TaskDisk {
  // Of a local file system the kernel knows it without a disk: quicker than a trip through the pool of threads.
  const used = () => {
    const { blocks, bfree, bsize, ffree } = statfsSync(folder)
    return { bytes: (blocks - bfree) * bsize, full: bfree === 0 || ffree === 0 }
  }
  let before = usedBefore
  let removed = false
  return {
    folder,
    get before() {
      return before
    },
    begin: () => {
      before = used().bytes
    },
    usage: () => {
      const { bytes: now, full } = used()
      return { bytes: Math.max(0, now - before), full }
    },
    release: async () => {
      if (removed) return
      removed = true
      await remove()
    },
  }
}

/** Unmounts and removes one disk that nobody uses any more, by its folder. */
export async function reapDisk(folder: string): Promise<void> {
  for (const point of await mountsIn(folder)) await unmount(point, { detach: true })
  await rm(folder, { recursive: true, force: true })
  await rm(`${folder}.img`, { force: true })
}

/**
 * Unmounts and removes what dead workers left mounted below a data folder. A container that still has one of these disks
 * keeps it until it ends.
 *
 * @param isAlive whether a worker, by its id, lives
 * @param inUse folders of disks that somebody else has taken over
 * @returns how many workers' disks went
 */
export async function reapDisks(
  dataDir: string,
  isAlive: (worker: string) => boolean,
  inUse: readonly string[] = [],
): Promise<number> {
  const root = join(dataDir, DISKS)
  const dead = (await readdir(root).catch(() => [])).filter(worker => {
    const folder = `${join(root, worker)}/`
    return !isAlive(worker) && !inUse.some(disk => disk.startsWith(folder))
  })
  for (const worker of dead) {
    const folder = join(root, worker)
    for (const point of await mountsIn(folder)) await unmount(point, { detach: true })
    await rm(folder, { recursive: true, force: true })
  }
  return dead.length
}
