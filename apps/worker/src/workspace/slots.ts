import { randomUUID } from 'node:crypto'
import { chownSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Owner } from '../engine/labels.js'
import { processStart } from '../support/identity.js'
import type { TaskDisks } from './disk/task-disks.js'
import { mountMemory, unmountMemory } from './memory.js'
import type { Slot } from './plan.js'
import { removeTree } from './remove-tree.js'

export interface FileOwner {
  readonly uid: number
  readonly gid: number
}

/** The user of the `user` profile; no image has it, so it owns nothing but its workspace. */
const TASK_USER: FileOwner = { uid: 10_001, gid: 10_001 }
/** Below a slot. */
const MEMORY = 'memory'
/** In its log folder: stdout, stderr, and the gate's marks. */
const LOG_FILES = ['o', 'e', 's']
const ROOT: FileOwner = { uid: 0, gid: 0 }

/**
 * Whose a task's workspace is. A worker without root can't give files away, so its tasks run as the worker's own uid
 * and gid: then there are no overlays.
 */
export function ownerFor(profile: 'user' | 'root'): FileOwner {
  const uid = process.getuid?.() ?? 0
  if (uid !== 0) return { uid, gid: process.getgid?.() ?? 0 }
  return profile === 'root' ? ROOT : TASK_USER
}

/** Whether the worker may give files to another user. */
export function isRoot(): boolean {
  return process.getuid?.() === 0
}

/**
 * Makes the folders of one container. The task writes into output, home and log, so it owns these; the others are the
 * worker's and only readable. Without leaving the thread: a dozen calls of some ten microseconds each, where every trip
 * through the pool of threads costs as much as all of them.
 */
export async function makeSlot(
  dataDir: string,
  worker: Owner,
  owner: FileOwner,
  {
    disks = null,
    withMemory = false,
    late = false,
  }: {
    disks?: { readonly from: TaskDisks; readonly bytes: number } | null
    /** Whether the task has secrets. */
    withMemory?: boolean
    /** Whether the repository is mounted below the slot's disk, which must be there. */
    late?: boolean
  } = {},
): Promise<Slot> {
  const id = randomUUID()
  const root = join(dataDir, 'slots', id)
  mkdirSync(join(dataDir, 'slots'), { recursive: true, mode: 0o711 })
  // First, so that no slot is ever without its owner's name for longer than a call takes.
  const disk = disks && (await disks.from.make(disks.bytes))
  try {
    mkdirSync(root, { mode: 0o700 })
    writeOwner(root, worker, disk?.folder ?? null)
    const writable = disk?.folder ?? root
    const memory = withMemory ? join(root, MEMORY) : null
    if (memory !== null) await mountMemory(memory)
    const slot: Slot = {
      id,
      root,
      context: join(root, 'context'),
      output: join(writable, 'output'),
      home: join(writable, 'home'),
      log: join(writable, 'log'),
      gate: join(memory ?? root, 'gate'),
      live: late && disk ? join(disk.folder, 'live') : null,
      memory,
      disk,
    }
    // The worker's own: what the task may write to is mounted there.
    if (slot.live !== null) mkdirSync(slot.live, { mode: 0o755 })
    mkdirSync(slot.context, { mode: 0o755 })
    mkdirSync(slot.gate, { mode: 0o755 })
    makeOwned(slot.output, 0o755, owner)
    makeOwned(slot.home, 0o700, owner)
    makeOwned(slot.log, 0o700, owner)
    // What the gate appends to; they are there before the task, for who follows them from its first byte.
    for (const name of LOG_FILES) writeOwned(join(slot.log, name), '', owner)
    return slot
  } catch (error) {
    await disk?.release()
    if (withMemory) await unmountMemory(join(root, MEMORY)).catch(() => undefined)
    await removeTree(root)
    throw error
  }
}

const OWNER = 'owner.json'

export interface SlotOwner {
  readonly worker: string
  readonly host: string
  readonly stack: string
  /** The folder of the slot's disk; null or absent where it has none. */
  readonly disk?: string | null
}

/** Says whose a slot is: whoever it was before must be dead. */
export function writeOwner(root: string, worker: Owner, disk: string | null): void {
  const path = join(root, OWNER)
  writeFileSync(`${path}.new`, JSON.stringify({ ...describeOwner(worker), disk }), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/** @returns null for a slot that is being made, or is gone */
export function readOwner(root: string): SlotOwner | null {
  try {
    return JSON.parse(readFileSync(join(root, OWNER), 'utf8')) as SlotOwner
  } catch {
    return null
  }
}

/** Takes a slot away that nothing mounts any more. */
export async function removeSlot({ root, disk, memory }: Slot): Promise<void> {
  if (memory !== null) await unmountMemory(memory)
  await disk?.release()
  await removeRoot(root, disk !== null)
}

/**
 * What a task wrote may need a program to remove it. Where that was on its disk, only the worker's own folders are left, and
 * a program's start takes longer than they do.
 */
async function removeRoot(root: string, isOwn: boolean): Promise<void> {
  if (
    isOwn &&
    (await rm(root, { recursive: true, force: true }).then(
      () => true,
      () => false,
    ))
  )
    return
  await removeTree(root)
}

/** Enough for a reaper to tell whether the worker lives: pids are used again, a pid and its start are not. */
function describeOwner(worker: Owner) {
  return { ...worker, pid: process.pid, pidStart: processStart(process.pid) }
}

/**
 * Writes a new file that only the task's user may read or write.
 *
 * @throws Error (`EEXIST` also where a link lies)
 */
export function writeOwned(path: string, bytes: Buffer | string, owner: FileOwner): void {
  writeFileSync(path, bytes, { flag: 'wx', mode: 0o600 })
  if (isRoot()) chownSync(path, owner.uid, owner.gid)
}

function makeOwned(path: string, mode: number, owner: FileOwner): void {
  mkdirSync(path, { mode })
  if (isRoot()) chownSync(path, owner.uid, owner.gid)
}
