import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { allocate, MOUNT, mount, unmount } from '../../support/libc.js'
import { sleep } from '../../support/lifecycle.js'
import { runProgram } from '../../support/program.js'
import { withLoop } from './loop.js'
import { format } from './template.js'

const BLOCK = 4096
/** As mkfs.ext4 has it: a tree of small files runs out of both at about the same time. */
const BYTES_PER_INODE = 16_384
const MIN_INODES = 4096
const INODE_BYTES = 256
/** Superblocks, bitmaps and descriptors, for any size and per byte. */
const FIXED_BYTES = 3 * 2 ** 20
const PER_BYTE = 0.01

const OPTIONS = { type: 'ext4', flags: MOUNT.noSuid | MOUNT.noDev | MOUNT.noAtime, data: 'noinit_itable' }
const PROGRAM_OPTIONS = 'loop,nosuid,nodev,noatime,noinit_itable'
const UNMOUNT_TRIES = 20
const UNMOUNT_MS = 50

/**
 * Makes a file that holds an empty ext4 of at least `bytes` for files. All of it is allocated: a sparse one on a full
 * host would lose data without anybody hearing of it.
 *
 * @throws Error (`ENOSPC` or what mkfs says); then no file is left
 */
export async function makeDiskImage(file: string, bytes: number): Promise<void> {
  const inodes = Math.max(MIN_INODES, Math.ceil(bytes / BYTES_PER_INODE))
  const size = Math.ceil(bytes * (1 + PER_BYTE) + inodes * INODE_BYTES + FIXED_BYTES)
  const whole = Math.ceil(size / BLOCK) * BLOCK
  try {
    await allocateFile(file, whole)
    await format(file, { bytes: whole, blockBytes: BLOCK, inodes })
  } catch (error) {
    await rm(file, { force: true })
    throw error
  }
}

async function allocateFile(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'wx', 0o600)
  try {
    await allocate(handle.fd, bytes)
  } finally {
    await handle.close()
  }
}

/** Mounts an image on a folder that it makes. @throws Error; then nothing is mounted and there is no such folder */
export async function mountDisk(file: string, point: string): Promise<void> {
  await mkdir(point, { mode: 0o755 })
  try {
    // The program knows older kernels too, and says in words what is wrong.
    await withLoop(file, device => mount(device, point, OPTIONS)).catch(() =>
      runProgram('mount', ['-t', 'ext4', '-o', PROGRAM_OPTIONS, file, point]),
    )
    await rm(join(point, 'lost+found'), { recursive: true, force: true })
  } catch (error) {
    await unmountDisk(point).catch(() => undefined)
    await rm(point, { recursive: true, force: true }).catch(() => undefined)
    throw error
  }
}

/**
 * Unmounts what is mounted on a folder; with that its loop device goes too. What still holds it for a moment, such as a
 * container on its way out, is waited for, and then left to itself.
 */
export async function unmountDisk(point: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await unmount(point, { detach: tries > UNMOUNT_TRIES })
      return
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'EINVAL' || code === 'ENOENT') return
      if (code !== 'EBUSY') throw error
      await sleep(UNMOUNT_MS)
    }
  }
}
