import { execFile } from 'node:child_process'
import { mkdir, readdir, readFile, rm, rmdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Releasable } from '../../support/lifecycle.js'
import { makeDiskImage, mountDisk, unmountDisk } from './disk-image.js'

const run = promisify(execFile)

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
  /** From now on, what is there counts as not the task's. */
  begin(): Promise<void>
  usage(): Promise<DiskUsage>
}

/**
 * Makes disks for slots. They are mounted below a folder of this worker's own whose mounts every mount namespace hears
 * of: the processes that read changes have their own, and a disk that one of them still had would never be freed.
 */
export class TaskDisks {
  readonly #folder: string

  /** @throws Error that says why this worker can't mount */
  static async open(dataDir: string, worker: string): Promise<TaskDisks> {
    const folder = join(dataDir, DISKS, worker)
    await mkdir(folder, { recursive: true, mode: 0o711 })
    try {
      await run('mount', ['--bind', folder, folder])
      // First private: a parent that is shared would take the mount into its own group.
      await run('mount', ['--make-private', folder])
      await run('mount', ['--make-shared', folder])
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

  /**
   * @param image where the file that holds the disk is to lie
   * @throws Error (`ENOSPC` in its words when the worker's own disk is full)
   */
  async make(id: string, image: string, bytes: number): Promise<TaskDisk> {
    const folder = join(this.#folder, id)
    await makeDiskImage(image, bytes)
    try {
      await mountDisk(image, folder)
    } catch (error) {
      await rm(image, { force: true })
      throw error
    }
    return mountedDisk(folder, image)
  }

  async close(): Promise<void> {
    await unmountDisk(this.#folder)
    await rmdir(this.#folder)
  }
}

function mountedDisk(folder: string, image: string): TaskDisk {
  const used = async () => {
    const { blocks, bfree, bsize, ffree } = await statfs(folder)
    return { bytes: (blocks - bfree) * bsize, full: bfree === 0 || ffree === 0 }
  }
  let before = 0
  return {
    folder,
    begin: async () => {
      before = (await used()).bytes
    },
    usage: async () => {
      const { bytes: now, full } = await used()
      return { bytes: Math.max(0, now - before), full }
    },
    release: async () => {
      await unmountDisk(folder)
      await rmdir(folder).catch(() => undefined)
      await rm(image, { force: true })
    },
  }
}

/** Unmounts the disk of one slot that nobody uses any more, where it has one. */
export async function reapDisk(dataDir: string, worker: string, slot: string): Promise<void> {
  const folder = join(dataDir, DISKS, worker, slot)
  for (const point of await mountsAt(folder)) await run('umount', ['-l', point])
  await rm(folder, { recursive: true, force: true })
}

/**
 * Unmounts and removes what dead workers left mounted below a data folder.
 *
 * @param isAlive whether a worker, by its id, lives
 * A container that still has one of these disks keeps it until it ends.
 *
 * @returns how many workers' disks went
 */
export async function reapDisks(dataDir: string, isAlive: (worker: string) => boolean): Promise<number> {
  const root = join(dataDir, DISKS)
  const dead = (await readdir(root).catch(() => [])).filter(worker => !isAlive(worker))
  for (const worker of dead) {
    const folder = join(root, worker)
    for (const point of await mountsAt(folder)) await run('umount', ['-l', point])
    await rm(folder, { recursive: true, force: true })
  }
  return dead.length
}

/** A folder and what is below it, as far as it is a mount; the innermost first. */
async function mountsAt(folder: string): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8')
  const points = table.split('\n').map(line => line.split(' ')[4] ?? '')
  return points.filter(point => point === folder || point.startsWith(`${folder}/`)).toReversed()
}
