import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MOUNT, mountQuickly } from '../support/libc.js'
import { mountsIn } from '../support/mounts.js'
import { unmountDisk } from './disk/disk-image.js'
import { removeTree } from './remove-tree.js'

/** Enough for a task's secrets, its gate, and one of each to replace it. */
const MEMORY_BYTES = 16 * 2 ** 20
const OPTIONS = {
  type: 'tmpfs',
  flags: MOUNT.noSuid | MOUNT.noDev | MOUNT.noExec,
  data: `size=${MEMORY_BYTES},nr_inodes=4096,mode=0711`,
}

/**
 * Makes a folder whose files are in memory and on no disk.
 *
 * @throws Error; then there is no such folder
 */
export async function mountMemory(folder: string): Promise<void> {
  await mkdir(folder, { mode: 0o711 })
  try {
    await mountQuickly('tmpfs', folder, OPTIONS)
  } catch (error) {
    await removeTree(folder)
    throw error
  }
}

/**
 * Takes it away, and what is in it first: the mount may live on for a while in a mount namespace that was copied
 * meanwhile.
 */
export async function unmountMemory(folder: string): Promise<void> {
  for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true, force: true })
  await unmountDisk(folder)
}

/** Takes away what a dead worker left mounted below one of its slots. */
export async function reapMemory(slot: string): Promise<void> {
  for (const point of await mountsIn(slot)) await unmountMemory(point)
}
