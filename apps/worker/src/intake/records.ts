import {
  type AttemptRecord,
  DEFAULT_TENANT,
  endOf,
  type KeepRequest,
  LEASE_MS,
  type NewEvent,
  RETENTION_SECONDS,
  type RedisNames,
  scripts,
  TaskFailure,
  type TaskResult,
} from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import { type Observer, UNOBSERVED } from '../support/observer.js'

/** What Redis knows of a task beside its job. */
export interface TaskRecord {
  readonly attempts: readonly AttemptRecord[]
  /** Numbers of the attempts whose first command ran: those count against `retry.maxAttempts`. */
  readonly ran: ReadonlySet<number>
  readonly createdAt: string | null
  readonly fence: number | null
}

export type Begun =
  | {
      readonly state: 'started'
      readonly fence: number
      readonly attempt: number
      readonly record: TaskRecord
      /** Why the task is canceled already; null when it is not. */
      readonly cancelReason: string | null
    }
  | { readonly state: 'leased'; readonly leftMs: number }
  | { readonly state: 'finished' }

/** The fenced record of tasks in Redis. Each method is one script: it happens whole or not at all. */
export class TaskRecords {
  readonly #redis: Redis
  readonly #names: RedisNames
  readonly #observer: Pick<Observer, 'finished' | 'renewed'>

  constructor(
    redis: Redis,
    names: RedisNames,
    observer: Pick<Observer, 'finished' | 'renewed'> = UNOBSERVED,
  ) {
    this.#redis = redis
    this.#names = names
    this.#observer = observer
  }

  async read(taskId: string): Promise<TaskRecord> {
    return readRecord(await this.#redis.hgetall(this.#names.record(taskId)))
  }

  async cancelReason(taskId: string): Promise<string | null> {
    return await this.#redis.get(this.#names.cancel(taskId))
  }

  async result(taskId: string): Promise<TaskResult | null> {
    const text = await this.#redis.get(this.#names.result(taskId))
    return text === null ? null : (JSON.parse(text) as TaskResult)
  }

  /** Whose task it is, of one that may not have ended; null when the queue knows none of that id. */
  async tenantOf(taskId: string): Promise<string | null> {
    const text = await this.#redis.hget(this.#names.record(taskId), 'task')
    if (text === null) return null
    const { tenantId } = JSON.parse(text) as { tenantId?: unknown }
    return typeof tenantId === 'string' ? tenantId : DEFAULT_TENANT
  }

  async begin(taskId: string, worker: string, startedAt: string): Promise<Begun> {
    const { record, result, lease, fence, cancel } = this.#names
    const keys = [record(taskId), result(taskId), lease(taskId), fence, cancel(taskId)]
    const answer = (await this.#redis.eval(
      scripts.BEGIN_ATTEMPT,
      keys.length,
      ...keys,
      worker,
      startedAt,
      LEASE_MS,
    )) as ['finished'] | ['leased', number] | ['started', number, number, string[], string | null]
    if (answer[0] === 'finished') return { state: 'finished' }
    if (answer[0] === 'leased') return { state: 'leased', leftMs: answer[1] }
    const [state, number, attempt, fields, cancelReason] = answer
    return { state, fence: number, attempt, record: readRecord(pairsOf(fields)), cancelReason }
  }

  /** @returns the fence, or null when the task is finished or running */
  async takeFence(taskId: string): Promise<number | null> {
    const { record, result, lease, fence } = this.#names
    const keys = [record(taskId), result(taskId), lease(taskId), fence]
    return ((await this.#redis.eval(scripts.TAKE_FENCE, keys.length, ...keys)) as number) || null
  }

  /** Tasks whose `limits.queue` is over, at most a hundred at a time. */
  async expired(now: number): Promise<string[]> {
    return await this.#redis.zrangebyscore(this.#names.expiring, '-inf', now, 'LIMIT', 0, 100)
  }

  /** As `takeFence`, of a task that `expired` named. @returns null also when an attempt has begun */
  async takeExpired(taskId: string): Promise<number | null> {
    const { record, result, lease, fence, expiring } = this.#names
    const keys = [record(taskId), result(taskId), lease(taskId), fence, expiring]
    return ((await this.#redis.eval(scripts.TAKE_EXPIRED, keys.length, ...keys, taskId)) as number) || null
  }

  /** What an operator wants of the task's container after its end; null for nothing. */
  async keepRequest(taskId: string): Promise<KeepRequest | null> {
    const text = await this.#redis.get(this.#names.keep(taskId))
    return text === null ? null : (JSON.parse(text) as KeepRequest)
  }

  /** The task as it was sent, and when; null when the queue knows none of that id. */
  async sent(taskId: string): Promise<{ task: unknown; createdAt: string } | null> {
    const [task, createdAt] = await this.#redis.hmget(this.#names.record(taskId), 'task', 'createdAt')
    return task && createdAt ? { task: JSON.parse(task), createdAt } : null
  }

  /** @returns false when a later attempt has taken over */
  async renew(taskId: string, fence: number): Promise<boolean> {
    const keys = [this.#names.record(taskId), this.#names.lease(taskId)]
    try {
      const kept = (await this.#redis.eval(scripts.RENEW_LEASE, keys.length, ...keys, fence, LEASE_MS)) === 1
      this.#observer.renewed(kept ? 'kept' : 'lost')
      return kept
    } catch (error) {
      this.#observer.renewed('failed')
      throw error
    }
  }

  /** Renews the lease, for what must not be done by a stale attempt. @throws TaskFailure `worker.lease_lost` */
  async assertCurrent(taskId: string, fence: number): Promise<void> {
    if (await this.renew(taskId, fence)) return
    throw new TaskFailure('worker.lease_lost', 'a later attempt of the task has taken over')
  }

  /** @returns false when a later attempt has taken over */
  async markRan(taskId: string, fence: number, attempt: number): Promise<boolean> {
    return (await this.#redis.eval(scripts.MARK_RAN, 1, this.#names.record(taskId), fence, attempt)) === 1
  }

  /** Takes `markRan` back. @returns false when a later attempt has taken over */
  async unmarkRan(taskId: string, fence: number, attempt: number): Promise<boolean> {
    return (await this.#redis.eval(scripts.UNMARK_RAN, 1, this.#names.record(taskId), fence, attempt)) === 1
  }

  /** Rewrites an attempt that ended without ending the task, and gives its lease back. */
  async end(taskId: string, fence: number, attempt: AttemptRecord): Promise<boolean> {
    const keys = [this.#names.record(taskId), this.#names.lease(taskId)]
    const args = [fence, attempt.attempt, JSON.stringify(attempt)]
    return (await this.#redis.eval(scripts.END_ATTEMPT, keys.length, ...keys, ...args)) === 1
  }

  /** Undoes an attempt that the worker gives back: it never happened, as far as retries go. */
  async giveBack(taskId: string, fence: number, attempt: number): Promise<void> {
    const keys = [this.#names.record(taskId), this.#names.lease(taskId)]
    await this.#redis.eval(scripts.GIVE_BACK, keys.length, ...keys, fence, attempt)
  }

  /** Corrects the record of an earlier attempt, such as one whose worker died. */
  async amend(taskId: string, attempt: AttemptRecord): Promise<void> {
    await this.#redis.hset(this.#names.record(taskId), `attempt:${attempt.attempt}`, JSON.stringify(attempt))
  }

  async appendEvents(taskId: string, fence: number, events: readonly NewEvent[]): Promise<void> {
    const keys = [this.#names.record(taskId), this.#names.events(taskId)]
    await this.#redis.eval(
      scripts.APPEND_EVENTS,
      keys.length,
      ...keys,
      fence,
      ...events.map(event => JSON.stringify(event)),
    )
  }

  /** Writes the task's one result, with its last events. `attempt` is the record of the attempt that ended it, null when none ran. */
  async finish(
    fence: number,
    result: TaskResult,
    last: readonly NewEvent[],
    attempt: AttemptRecord | null,
  ): Promise<'written' | 'exists' | 'stale'> {
    const { taskId } = result
    const { record, result: resultKey, events, log, lease, cancel, doneChannel } = this.#names
    const end = endOf(result, this.#names)
    const keys = [...[record, resultKey, events, log, lease, cancel].map(name => name(taskId)), ...end.keys]
    const written = (await this.#redis.eval(
      scripts.FINISH,
      keys.length,
      ...keys,
      fence,
      JSON.stringify(result),
      attempt?.attempt ?? 0,
      attempt ? JSON.stringify(attempt) : '',
      RETENTION_SECONDS,
      doneChannel,
      taskId,
      ...end.values,
      ...last.map(event => JSON.stringify(event)),
    )) as 'written' | 'exists' | 'stale'
    if (written === 'written') this.#observer.finished(result)
    return written
  }
}

function readRecord(fields: Readonly<Record<string, string>>): TaskRecord {
  const attempts = Object.entries(fields)
    .filter(([field]) => field.startsWith('attempt:'))
    .map(([, text]) => JSON.parse(text) as AttemptRecord)
    .toSorted((a, b) => a.attempt - b.attempt)
  const ran = Object.keys(fields)
    .filter(field => field.startsWith('ran:'))
    .map(field => Number(field.slice(4)))
  return {
    attempts,
    ran: new Set(ran),
    createdAt: fields.createdAt ?? null,
    fence: fields.fence === undefined ? null : Number(fields.fence),
  }
}

/** Field, value, field, value, … as a script returns a hash. */
function pairsOf(flat: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {}
  for (let at = 0; at + 1 < flat.length; at += 2) fields[flat[at] as string] = flat[at + 1] as string
  return fields
}
