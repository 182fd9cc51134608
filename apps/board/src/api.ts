/**
 * What the board's pages ask its server for, below `<base>/api/`. All of it is redacted on its way out, and JSON but for what
 * is said otherwise. A refusal is `{ error }` with a status of 400 or more.
 *
 * | request                                   | answer                                                                  |
 * | ----------------------------------------- | ----------------------------------------------------------------------- |
 * | GET session                               | Session; 401 without one                                                |
 * | POST login, `{ password }`                | Session, with the cookie; 401; 429                                      |
 * | POST logout                               | 204                                                                     |
 * | GET overview                              | Overview                                                                |
 * | GET containers                            | Containers                                                              |
 * | GET stream                                | server-sent events `overview` and `containers`, each when it changed    |
 * | GET tasks?q=&state=                       | TaskList                                                                |
 * | GET tasks/:id                             | TaskView; 404                                                           |
 * | GET tasks/:id/stream?log=N&events=N       | server-sent events `log` (LogEntry[]), `event` (TaskEvent[]) and `done` |
 * | GET tasks/:id/patch                       | the patch as text, redacted                                             |
 * | GET tasks/:id/artifacts/*                 | the bytes, as an attachment                                             |
 * | POST tasks/:id/cancel, `{ reason }`       | `{ verdict }`; for operators                                            |
 * | POST tasks/:id/again                      | `{ taskId }`: a new task with the same content; for operators           |
 *
 * What changes something needs the header `x-csrf-token` with the session's token. A stream of a task begins after the entries
 * whose seq is given, so that one that broke goes on.
 */
import type { ActivityMinute, EndedTask, LiveContainer, TaskResult, WorkerRecord } from '@agirunner/contracts'

export type Role = 'operator' | 'viewer'

export interface Session {
  readonly user: string
  readonly role: Role
  /** For the header `x-csrf-token`. */
  readonly csrf: string
  readonly queue: string
}

export interface Containers {
  /** When the board put them together, RFC 3339. */
  readonly at: string
  readonly containers: readonly LiveContainer[]
}

export interface Overview {
  readonly at: string
  readonly queue: {
    readonly waiting: number
    /** Those that are not to begin yet, and those that wait to be tried again. */
    readonly delayed: number
    readonly active: number
    readonly byPriority: Readonly<Record<'critical' | 'high' | 'normal' | 'low', number>>
    /** Of those that wait, the busiest tenants first. */
    readonly byTenant: readonly { readonly tenantId: string; readonly waiting: number }[]
    /** How many of those that wait were looked at for `byTenant`. */
    readonly tenantsOf: number
  }
  /** The last hour, a minute each, the oldest first; every minute is there. */
  readonly activity: readonly ActivityMinute[]
  readonly workers: readonly WorkerView[]
  /** How many tasks the workers run, and how many they can. */
  readonly capacity: { readonly running: number; readonly total: number }
  readonly parking: { readonly parked: number; readonly hits: number; readonly misses: number }
  readonly cache: {
    readonly hits: number
    readonly misses: number
    readonly bytes: number
    readonly maxBytes: number
  }
}

export type WorkerView = Pick<
  WorkerRecord,
  'id' | 'host' | 'startedAt' | 'concurrency' | 'running' | 'strategy' | 'engine'
> & {
  /** `lost`: it has not been heard of, and did not say goodbye. */
  readonly state: WorkerRecord['state'] | 'lost'
  /** When it was last heard of, RFC 3339. */
  readonly at: string | null
  /** Names of what its machine can't enforce. */
  readonly weak: readonly string[]
}

export type TaskState = 'queued' | 'running' | 'finished'

export interface TaskRow {
  readonly taskId: string
  readonly tenantId: string
  readonly state: TaskState
  readonly status: EndedTask['status'] | null
  readonly code: string | null
  /** When it ended, began or was enqueued, RFC 3339. */
  readonly at: string | null
  readonly wallMs: number | null
}

export interface TaskList {
  readonly tasks: readonly TaskRow[]
  /** Whether there are more than these that wait. */
  readonly more: boolean
}

export interface TaskView {
  readonly taskId: string
  readonly tenantId: string
  readonly state: TaskState
  readonly createdAt: string
  /** The task as it was sent. */
  readonly spec: unknown
  readonly priority: string
  /** Why it was asked to be canceled; null when it was not. */
  readonly cancel: string | null
  readonly attempts: TaskResult['attempts']
  readonly result: TaskResult | null
  /** Where its job is shown, relative to the board's base. */
  readonly job: string
}
