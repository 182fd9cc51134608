import { readdir, readFile, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Deletes artifacts whose time is up, `$AGIRUNNER_DATA/artifacts/<tenant>/<task>/<fence>`, and the folders that this
 * leaves empty.
 *
 * @returns how many were deleted
 */
export async function sweepArtifacts(dataDir: string, now: number): Promise<number> {
  let deleted = 0
  for (const tenant of await below(join(dataDir, 'artifacts'))) {
    for (const task of await below(tenant)) {
      for (const attempt of await below(task)) deleted += await sweep(attempt, now)
      await rmdir(task).catch(() => undefined)
    }
  }
  return deleted
}

async function sweep(folder: string, now: number): Promise<number> {
  const expires = Date.parse(await readFile(join(folder, 'expires'), 'utf8').catch(() => ''))
  // No date means never, or that it is just being made.
  if (Number.isNaN(expires) || expires > now) return 0
  await rm(folder, { recursive: true, force: true })
  return 1
}

async function below(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(() => [])).map(name => join(folder, name))
}
