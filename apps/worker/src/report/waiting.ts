import { TaskFailure } from '@agirunner/contracts'
import { canceledFailure } from '../intake/cancellations.js'
import type { TaskRecords } from '../intake/records.js'
import type { Log } from '../support/log.js'
import { finishedEvent } from './events.js'
import { statusOf } from './outcome.js'
import { buildResult, identify, NOTHING_REACHED } from './result.js'

export interface WaitingOptions {
  readonly records: TaskRecords
  readonly worker: { readonly id: string; readonly host: string }
  readonly log: Log
}

/**
 * Ends a task that was canceled while no worker had it, in the queue or between two attempts: the platform hears it at
 * once, and the job finds its result when its turn comes. A task that runs is left alone.
 */
export async function cancelWaiting(taskId: string, options: WaitingOptions): Promise<void> {
  const { records } = options
  const reason = await records.cancelReason(taskId)
  if (reason === null) return
  const fence = await records.takeFence(taskId)
  if (fence !== null) await endWaiting(taskId, fence, canceledFailure(reason), options)
}

/** Ends the tasks that have waited longer than their `limits.queue` for their first attempt, whoever is busy. */
export async function expireWaiting(options: WaitingOptions): Promise<void> {
  const { records } = options
  for (const taskId of await records.expired(Date.now())) {
    const fence = await records.takeExpired(taskId)
    if (fence !== null) await endWaiting(taskId, fence, expiredFailure(), options)
  }
}

function expiredFailure(): TaskFailure {
  return new TaskFailure('task.expired', 'no worker was free for the task within limits.queue')
}

async function endWaiting(
  taskId: string,
  fence: number,
  failure: TaskFailure,
  { records, worker, log }: WaitingOptions,
): Promise<void> {
  const [sent, record] = await Promise.all([records.sent(taskId), records.read(taskId)])
  if (sent === null) return
  const { createdAt } = sent
  const result = buildResult({
    identity: identify(taskId, { ...sent, traceparent: null }),
    task: null,
    status: statusOf(failure),
    failure: failure.toFailure('queued'),
    createdAt,
    attempts: record.attempts,
    reached: NOTHING_REACHED,
    worker,
  })
  const event = finishedEvent(result, record.attempts.at(-1)?.attempt ?? 0)
  const written = await records.finish(fence, { ...result, worker: null }, [event], null)
  log.info('task ended while it waited', { taskId, code: failure.code, written })
}
