import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AcceptedTask } from '../../intake/accepted-task.js'

/**
 * The folder for what one attempt leaves behind, `$AGIRUNNER_DATA/artifacts/<tenant>/<task>/<fence>`: a stale attempt
 * writes into another one, which no result ever names.
 */
export async function artifactFolder(dataDir: string, { task, fence }: AcceptedTask): Promise<string> {
  const folder = join(dataDir, 'artifacts', task.tenantId, task.taskId, String(fence))
  // A fence is never given twice, but a Redis that lost its data counts from the start again.
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true, mode: 0o700 })
  // Until it is sealed its retention has not begun: a task may run for longer than that.
  await writeExpiry(folder, new Date(Date.now() + task.limits.timeout * 1000 + DAY_MS))
  return folder
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
  await writeFile(join(folder, 'expires'), at?.toISOString() ?? 'never')
}
