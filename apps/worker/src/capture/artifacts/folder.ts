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
  await writeFile(join(folder, 'expires'), expiry(task.capture.retention))
  return folder
}

const DAY_MS = 24 * 3600 * 1000

/** RFC 3339, or `never`. An ephemeral one lasts as long as a platform may need to fetch it: one hour. */
function expiry(retention: string): string {
  if (retention === 'forever') return 'never'
  const ms = retention === 'ephemeral' ? DAY_MS / 24 : Number(retention.slice('days:'.length)) * DAY_MS
  return new Date(Date.now() + ms).toISOString()
}
