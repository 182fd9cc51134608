import type { Task } from './task.js'

/** In braces, so that on a Redis cluster every key of the runtime lives in one slot and scripts may touch them together. */
export const REDIS_PREFIX = '{agirunner}'
export const DEFAULT_QUEUE = 'agirunner'
/** A task's keys outlive its end by this much: 7 days, in seconds. */
export const RETENTION_SECONDS = 7 * 24 * 3600
/** How long an attempt's lease and a worker's heartbeat last without renewal, in milliseconds. */
export const LEASE_MS = 15_000

/** BullMQ serves 0 first, then 1 upward. */
export const PRIORITIES: Readonly<Record<Task['priority'], number>> = {
  critical: 0,
  high: 10,
  normal: 20,
  low: 30,
}

/** What a BullMQ job of the runtime holds: the task as it was sent, nothing derived from it. */
export interface TaskJobData {
  readonly task: unknown
  readonly createdAt: string
  readonly traceparent: string | null
}

/** Every Redis key and channel of the runtime for one queue; BullMQ's own are below `{agirunner}:<queue>`. */
export interface RedisNames {
  /**
   * Hash: hash, task, createdAt, fence, attempt, eventSeq, state, `attempt:<n>` with an AttemptRecord, and
   * `ran:<n>` once its first command ran.
   */
  readonly record: (taskId: string) => string
  /** String: the TaskResult. Written once. */
  readonly result: (taskId: string) => string
  /**
   * Stream: one LogEntry per entry, its id `<seq>-0`, to be read by `logEntryOf`; the last entry has the field `end`
   * instead.
   */
  readonly log: (taskId: string) => string
  /** Stream: one event without its seq in field `e`, its id `<seq>-0`. */
  readonly events: (taskId: string) => string
  /** String: the reason why it was canceled. */
  readonly cancel: (taskId: string) => string
  /** String: the fence of the running attempt; expires when its worker stops renewing it. */
  readonly lease: (taskId: string) => string
  /** String: counts fences over all tasks of the queue. */
  readonly fence: string
  /** String: a random id of this queue in this Redis; it marks what the queue's workers make on an engine. */
  readonly stack: string
  /** Sorted set: tasks with `limits.queue` that may still wait, by the time when that ends, in Unix milliseconds. */
  readonly expiring: string
  /** String: a KeepRequest, when a task's container is to outlast the task. */
  readonly keep: (taskId: string) => string
  /** Channel: a message is the taskId whose cancel key was set. */
  readonly cancelChannel: string
  /** Channel: a message is the taskId whose result was written. */
  readonly doneChannel: string
  /** Set of worker ids; each has a WorkerRecord at `worker(id)`. */
  readonly workers: string
  /** String: a worker's WorkerRecord; expires when it stops renewing it. */
  readonly worker: (workerId: string) => string
  /** String: a worker's LiveRecord, while somebody looks. */
  readonly containers: (workerId: string) => string
  /** Channel: any message asks the workers to tell of their containers for a while. */
  readonly lookChannel: string
  /** Hash, by the Unix time of a minute, in minutes: what ended in it, as `activityOf` reads it. */
  readonly activity: (minute: number) => string
  /** List: the last tasks that ended, each an EndedTask as JSON, the latest first. */
  readonly recent: string
  /** String: an operator's session on the board, by a digest of its id. */
  readonly session: (digest: string) => string
  /** String: the id of the worker that goes on with what that one, which died, has begun; expires like a heartbeat. */
  readonly adopted: (workerId: string) => string
}

export function redisNames(queue: string): RedisNames {
  const base = `${REDIS_PREFIX}:rt:${queue}`
  return {
    record: taskId => `${base}:task:${taskId}`,
    result: taskId => `${base}:result:${taskId}`,
    log: taskId => `${base}:log:${taskId}`,
    events: taskId => `${base}:events:${taskId}`,
    cancel: taskId => `${base}:cancel:${taskId}`,
    lease: taskId => `${base}:lease:${taskId}`,
    fence: `${base}:fence`,
    stack: `${base}:stack`,
    expiring: `${base}:expiring`,
    keep: taskId => `${base}:keep:${taskId}`,
    cancelChannel: `${base}:canceled`,
    doneChannel: `${base}:done`,
    workers: `${base}:workers`,
    worker: workerId => `${base}:worker:${workerId}`,
    containers: workerId => `${base}:containers:${workerId}`,
    lookChannel: `${base}:look`,
    activity: minute => `${base}:activity:${minute}`,
    recent: `${base}:recent`,
    session: digest => `${base}:session:${digest}`,
    adopted: workerId => `${base}:adopted:${workerId}`,
  }
}

/** What a worker's cache of repositories and snapshots may occupy, where AGIRUNNER_CACHE_BYTES says nothing else. */
export const DEFAULT_CACHE_BYTES = '20Gi'

/** Something that a worker may be able to enforce or not, as it found when it started. */
export interface Capability {
  /** Such as `disk quota` or `network allowlist`. */
  readonly name: string
  /** `weaker`: by other means, that hold less; `missing`: tasks that need it are refused. */
  readonly state: 'enforced' | 'weaker' | 'missing'
  /** By what, or why not. */
  readonly detail: string
  /** What the operator can do about it; null when nothing is to be done. */
  readonly fix: string | null
}

/** An operator's wish to look into a task's container after the task has ended. */
export interface KeepRequest {
  /** How long it is kept after the end, in milliseconds. */
  readonly forMs: number
  /** `failure`: only when the task did not succeed. */
  readonly when: 'always' | 'failure'
}

/** What a worker says of itself, renewed with its heartbeat. */
export interface WorkerRecord {
  readonly id: string
  readonly host: string
  readonly pid: number
  readonly startedAt: string
  /** When this record was written, RFC 3339; an older worker does not say. */
  readonly at?: string
  readonly state: 'executing' | 'idle' | 'draining'
  readonly concurrency: number
  readonly running: readonly string[]
  readonly strategy: string
  readonly engine: string
  /** Of repositories and snapshots: bytes on the disk, and workspaces made from what was there or not since the start. */
  readonly cache?: {
    readonly bytes: number
    readonly maxBytes: number
    readonly hits: number
    readonly misses: number
  }
  /** Containers that wait for tasks, and how often one did since the start; not there where none can. */
  readonly parking?: {
    readonly hits: number
    readonly misses: number
    /** Whether another one is to be made now. */
    readonly filling: boolean
    readonly parked: readonly {
      /** The container's id. */
      readonly id: string
      readonly image: string
      readonly profile: string
      readonly network: string
      /** A short hash of all that a task must have in common with it; an older worker does not say. */
      readonly shape?: string
      /** RFC 3339. */
      readonly parkedAt: string
    }[]
  }
  /** Folders of its machine below which tasks may name their own; an older worker does not say. */
  readonly hostRoots?: readonly string[]
  /** Where it answers /healthz, /readyz and /metrics; not there where it does not. */
  readonly http?: string
  /** What it can enforce on its machine; an older worker does not say. */
  readonly capabilities?: readonly Capability[]
}
