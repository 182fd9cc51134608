import { chownSync, mkdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runProgram } from '../support/program.js'
import type { RepositoryLayers, Slot, Strategy } from './plan.js'
import { type FileOwner, isRoot } from './slots.js'

const MAX_LIST_BYTES = 256 * 2 ** 20

/** Whether a path can stand in the options of an overlay mount, where `,` and `:` and `\` mean something. */
export function isMountable(path: string): boolean {
  return /^\/[^,:\\\s"]*$/.test(path)
}

/** Where the task's own files go: on top of the snapshot, into a copy of it, or into a folder that is sent after it. */
export async function makeLayers(
  strategy: Strategy,
  slot: Slot,
  lower: string,
  owner: FileOwner,
  signal: AbortSignal,
): Promise<RepositoryLayers> {
  if (strategy === 'copy') return await copySnapshot(slot, lower, signal)
  const writable = slot.disk?.folder ?? slot.root
  const [upper, work] = [join(writable, 'upper'), join(writable, 'work')]
  mkdirSync(upper, { mode: 0o755 })
  // The owner of the whole is the owner of the upper's root; without it git inside speaks of dubious ownership.
  if (isRoot()) chownSync(upper, owner.uid, owner.gid)
  if (strategy === 'archive') return { strategy, lower, upper, copy: join(slot.root, 'repo') }
  mkdirSync(work, { mode: 0o700 })
  return { strategy, lower, upper, work }
}

async function copySnapshot(slot: Slot, lower: string, signal: AbortSignal): Promise<RepositoryLayers> {
  const copy = join(slot.disk?.folder ?? slot.root, 'repo')
  try {
    await runProgram('cp', ['-a', '--reflink=auto', '--', lower, copy], { signal })
  } catch (error) {
    signal.throwIfAborted()
    throw new Error(`copying the repository failed; ${(error as Error).message.slice(0, 300)}`, {
      cause: error,
    })
  }
  await noteCopied(slot, copy)
  return { strategy: 'copy', lower, copy }
}

/**
 * Notes when the copy was whole and which inode each folder has, so that reading the changes need not read every
 * file. Where `find` can't tell, nothing is known and everything is read.
 */
async function noteCopied(slot: Slot, copy: string): Promise<void> {
  const list = ['.', '-path', './.git', '-prune', '-o', '-type', 'd', '-printf', String.raw`%i %P\0`]
  const { stdout } = await runProgram('find', list, {
    cwd: copy,
    maxBuffer: MAX_LIST_BYTES,
  }).catch(() => ({
    stdout: Buffer.alloc(0),
  }))
  await writeFile(join(slot.root, 'copied'), stdout, { mode: 0o600 })
}

/** The folder into which the worker may write for the task: files there are the task's view of its repository. */
export function writableSide(layers: RepositoryLayers): string {
  return layers.strategy === 'copy' ? layers.copy : layers.upper
}
