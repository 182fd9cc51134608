import type { NewEvent, TaskJobData, TaskResult } from '@agirunner/contracts'

/** How a renewal of a lease went: `lost` when a later attempt has taken over, `failed` when Redis did not say. */
export type Renewal = 'kept' | 'lost' | 'failed'

export interface BegunAttempt {
  readonly taskId: string
  readonly attempt: number
  /** RFC 3339. */
  readonly startedAt: string
  readonly data: TaskJobData
  /** Whether another worker has begun it. */
  readonly adopted: boolean
}

/** One attempt, for whoever watches it. */
export interface ObservedAttempt {
  /** The W3C context that the task's own spans belong below; null when nobody traces it. */
  readonly traceparent: string | null
  event(event: NewEvent): void
  /** It is over for this worker, whatever was told of it; can be repeated. */
  end(): void
}

/**
 * What the worker tells of its work to whoever watches it: metrics and traces. These are calls on every task's way, so
 * none waits for anything and none throws.
 */
export interface Observer {
  attempt(begun: BegunAttempt): ObservedAttempt
  /** The task has its one result, and this worker wrote it. */
  finished(result: TaskResult): void
  renewed(renewal: Renewal): void
  /** @param code why it failed; null when it did not */
  pulled(code: string | null): void
  /** So many things that dead workers left are gone. */
  reaped(count: number): void
  /** A step of a cleanup failed, and is left to the reaper. */
  leaked(): void
}

/** Nobody watches; what the platform sent is still passed on. */
export const UNOBSERVED: Observer = {
  attempt: ({ data }) => ({ traceparent: carriedTraceparent(data), event: ignore, end: ignore }),
  finished: ignore,
  renewed: ignore,
  pulled: ignore,
  reaped: ignore,
  leaked: ignore,
}

function ignore(): void {}

const TRACEPARENT = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/

/** The context that came with a job: its producer's, else the task's own. Anybody may write to Redis, so it is looked at. */
export function carriedTraceparent({ traceparent, task }: TaskJobData): string | null {
  const own = typeof task === 'object' && task !== null && 'traceparent' in task ? task.traceparent : null
  const valid = [traceparent, own].find(one => typeof one === 'string' && TRACEPARENT.test(one))
  return typeof valid === 'string' ? valid : null
}
