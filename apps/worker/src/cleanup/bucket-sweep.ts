import type { TaskResult } from '@agirunner/contracts'
import { EXPIRIES, type Expiry, type ObjectStore, readExpiryKey } from '@agirunner/storage'
import type { TaskRecords } from '../intake/records.js'
import { type Log, messageOf } from '../support/log.js'

export interface BucketSweep {
  readonly store: ObjectStore
  /** Who knows which attempt a task's result names. */
  readonly records: Pick<TaskRecords, 'result' | 'tenantOf'>
  readonly log: Pick<Log, 'warn'>
}

/** Objects that are deleted at the same time. */
const AT_ONCE = 8

/**
 * Deletes what has expired in the bucket. Markers are read in the order of their time up to the first that is in the
 * future, so the cost is that of what goes. Any number of workers may do this at once, and may be ended in the middle: a
 * marker goes last.
 *
 * @param now in milliseconds
 * @returns how many attempts were deleted
 * @throws StorageError when the markers can't be read; what can't be deleted is told to the log and tried again next time
 */
export async function sweepBucket(sweep: BucketSweep, now: number): Promise<number> {
  let deleted = 0
  for await (const key of sweep.store.list(EXPIRIES)) {
    const expiry = readExpiryKey(key)
    if (expiry === null) continue
    if (expiry.at.getTime() > now) break
    try {
      if (await settle(sweep, key, expiry)) deleted += 1
    } catch (error) {
      sweep.log.warn('an expired attempt is not deleted yet', { key, reason: messageOf(error) })
    }
  }
  return deleted
}

/** @returns whether the attempt was deleted */
async function settle(sweep: BucketSweep, marker: string, expiry: Expiry): Promise<boolean> {
  const verdict = expiry.unless === 'nothing' ? 'delete' : await verdictOn(sweep, expiry)
  if (verdict === 'later') return false
  if (verdict === 'delete') await remove(sweep.store, expiry.folder)
  await sweep.store.delete(marker)
  return verdict === 'delete'
}

/** What is meant for ever stays if its task's result names it. In doubt it stays: lost room is not lost data. */
async function verdictOn(
  { store, records, log }: BucketSweep,
  { taskId, folder }: Expiry,
): Promise<'delete' | 'keep' | 'later'> {
  const result = await records.result(taskId)
  if (result) return urisOf(result).some(uri => uri.startsWith(store.uriOf(folder))) ? 'keep' : 'delete'
  if ((await records.tenantOf(taskId)) !== null) return 'later'
  log.warn('artifacts of a task that this queue does not know are kept for ever', { taskId, folder })
  return 'keep'
}

function urisOf({ logs, changes, artifacts }: TaskResult): string[] {
  const all = [logs?.uri, changes?.patch?.uri, changes?.bundle?.uri, ...artifacts.map(({ uri }) => uri)]
  return all.filter(uri => typeof uri === 'string')
}

async function remove(store: ObjectStore, folder: string): Promise<void> {
  await store.abortUploads(folder)
  const keys = store.list(folder)
  const some = async () => {
    for await (const key of keys) await store.delete(key)
  }
  const ended = await Promise.allSettled(Array.from({ length: AT_ONCE }, some))
  const failed = ended.find(one => one.status === 'rejected')
  if (failed) throw failed.reason
}
