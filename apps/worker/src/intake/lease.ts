import { LEASE_MS, TaskFailure } from '@agirunner/contracts'
import { monotonicMs, type Releasable } from '../support/lifecycle.js'
import type { TaskRecords } from './records.js'

/** How often a lease is renewed, and after how long without a renewal its holder gives up, in milliseconds. */
const RENEW_MS = 3_000
const GIVE_UP_MS = 10_000

/**
 * Keeps an attempt's lease alive. Once it could not be renewed for 10 s, or a later attempt has taken over, `lost` is
 * called: the holder must kill its container and write nothing. It gives up 5 s before the lease ends, so that two
 * containers of one task never run at once.
 */
export function holdLease(
  records: TaskRecords,
  held: { taskId: string; fence: number },
  lost: (failure: TaskFailure) => void,
): Releasable {
  let renewedAt = monotonicMs()
  let asking = false
  const giveUp = (why: string) => {
    clearInterval(timer)
    lost(new TaskFailure('worker.lease_lost', why))
  }
  const renew = async () => {
    const asked = monotonicMs()
    if (await records.renew(held.taskId, held.fence)) renewedAt = asked
    else giveUp('a later attempt of the task has taken over')
  }
  // Checked more often than renewed: a renewal that hangs must not hide that time is running out.
  let next = monotonicMs() + RENEW_MS
  const timer = setInterval(() => {
    const now = monotonicMs()
    if (now - renewedAt >= GIVE_UP_MS)
      return giveUp(`the lease could not be renewed for ${GIVE_UP_MS} of ${LEASE_MS} ms`)
    if (asking || now < next) return
    asking = true
    next = now + RENEW_MS
    void renew()
      .catch(() => undefined)
      .finally(() => {
        asking = false
      })
  }, 250)
  return {
    release: async () => clearInterval(timer),
  }
}
