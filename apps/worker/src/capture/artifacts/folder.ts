import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AcceptedTask } from '../../intake/accepted-task.js'

/**
 * The folder for what one attempt leaves behind, `$AGIRUNNER_DATA/artifacts/<tenant>/<task>/<fence>`: a stale attempt
 * writes into another one, which no result ever names. Without leaving the thread, as it is on every task's way.
 */
export function artifactFolder(dataDir: string, { task, fence }: AcceptedTask): string {
  const folder = folderOf(dataDir, { task, fence })
  // A fence is never given twice, but a Redis that lost its data counts from the start again.
  if (mkdirSync(folder, { recursive: true, mode: 0o700 }) === undefined) {
    rmSync(folder, { recursive: true })
    mkdirSync(folder, { mode: 0o700 })
  }
  writeFileSync(...expiry(folder, provisional({ task })))
  return folder
}

/**
 * The same folder for an attempt that another worker began. What that one may have captured by half is captured again.
 *
 * @param kept names of what stays
 */
export async function resumeFolder(
  dataDir: string,
  accepted: AcceptedTask,
  kept: readonly string[],
): Promise<string> {
  const folder = folderOf(dataDir, accepted)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  for (const name of await readdir(folder))
    if (!kept.includes(name)) await rm(join(folder, name), { recursive: true, force: true })
  await writeExpiry(folder, provisional(accepted))
  return folder
}

/** Until an attempt is sealed its retention has not begun: a task may run for longer than that. */
function provisional({ task }: Pick<AcceptedTask, 'task'>): Date {
  return new Date(Date.now() + task.limits.timeout * 1000 + DAY_MS)
}

function folderOf(dataDir: string, { task, fence }: Pick<AcceptedTask, 'task' | 'fence'>): string {
  return join(dataDir, 'artifacts', task.tenantId, task.taskId, String(fence))
}

export const DAY_MS = 24 * 3600 * 1000

/**
 * When something sealed now expires; null for never. What is ephemeral lasts as long as a platform may need to fetch it:
 * one hour.
 */
export function expiryOf(retention: string): Date | null {
  if (retention === 'forever') return null
  const ms = retention === 'ephemeral' ? DAY_MS / 24 : Number(retention.slice('days:'.length)) * DAY_MS
  return new Date(Date.now() + ms)
}

/** Tells the sweeper when the folder goes; null for never. */
export async function writeExpiry(folder: string, at: Date | null): Promise<void> {
  await writeFile(...expiry(folder, at))
}

function expiry(folder: string, at: Date | null): [path: string, text: string] {
  return [join(folder, 'expires'), at?.toISOString() ?? 'never']
}
