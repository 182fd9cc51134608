import type { Status } from './result.js'

/** Something used, and how much of it there may be; null for what nobody can tell, and for no limit. */
export interface Gauge {
  readonly used: number | null
  readonly limit: number | null
}

/** A container of the runtime as its worker sees it now. */
export interface LiveContainer {
  /** The engine's id. */
  readonly id: string
  readonly name: string
  /** `parked` waits for a task; `helper` works for the runtime; `kept` outlasts its task for an operator. */
  readonly kind: 'task' | 'parked' | 'helper' | 'kept'
  /** `ended`: it runs no more, and what it left is being captured. */
  readonly status: 'starting' | 'running' | 'stopping' | 'ended'
  /** Null, with all else of a task, for one that has none. */
  readonly taskId: string | null
  readonly attempt: number | null
  readonly tenantId: string | null
  readonly labels: Readonly<Record<string, string>>
  readonly image: string
  readonly imageDigest: string | null
  /** As the image's os-release names it, such as `Debian GNU/Linux 12 (bookworm)`. */
  readonly distro: string | null
  /** In cores, over the time since the last look. */
  readonly cpu: Gauge
  /** In bytes. */
  readonly memory: Gauge
  readonly pids: Gauge
  readonly network: 'none' | 'open' | 'allowlist'
  /** RFC 3339; null before it started. */
  readonly startedAt: string | null
  /** The last line of its log, redacted and cut; null when it said nothing yet. */
  readonly lastOutput: { readonly at: string; readonly text: string } | null
  /** Its worker's id. */
  readonly worker: string
}

/** What a worker tells of its containers while somebody looks, at `containers(workerId)` in Redis. */
export interface LiveRecord {
  /** When it was written, RFC 3339. */
  readonly at: string
  readonly containers: readonly LiveContainer[]
}

/** What a queue's workers brought to an end within one minute. */
export interface ActivityMinute {
  /** When the minute began, RFC 3339. */
  readonly at: string
  readonly statuses: Readonly<Partial<Record<Status, number>>>
  /** By failure code. */
  readonly failures: Readonly<Record<string, number>>
  /** Sums over these tasks, in milliseconds. */
  readonly queuedMs: number
  readonly runMs: number
  /** How many of them found a parked container. */
  readonly parked: number
}

/** A task that has ended, as the list of the last ones holds it. */
export interface EndedTask {
  readonly taskId: string
  readonly tenantId: string
  readonly status: Status
  /** Null when it did not fail. */
  readonly code: string | null
  readonly finishedAt: string
  readonly wallMs: number | null
}

/** How many ended tasks the list holds. */
export const RECENT_TASKS = 500
/** How long the minutes of `activity` are kept, in seconds. */
export const ACTIVITY_SECONDS = 2 * 3600
/** After a look at its containers, a worker goes on telling of them for so long, in milliseconds, once each `LIVE_EVERY_MS`. */
export const LIVE_MS = 10_000
export const LIVE_EVERY_MS = 1000
