import type { ExitCause } from '@agirunner/contracts'
import type { Releasable } from '../support/lifecycle.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import type { DiskRecord } from './disk-watch.js'
import type { Limit } from './limit.js'
import type { GateMarks } from './marks.js'
import type { Egress } from './network/networks.js'
import type { Measured } from './usage.js'

/** How a container ended. */
export interface Exit {
  /** Null when the container was lost. */
  readonly code: number | null
  /** The last signal that the runtime sent, else the last that the engine says somebody sent through it; else null. */
  readonly signal: string | null
  /** Whether somebody other than the runtime ended it through the engine. */
  readonly killedByOthers: boolean
  /** Whether a process of it was killed for want of memory. */
  readonly oomKilled: boolean
  /** Whether it tried to have more processes than it may. */
  readonly pidsExceeded: boolean
  readonly cause: ExitCause
  /** The first limit for which the runtime ended it; null when none was. */
  readonly limit: Limit | null
  /** Whether it ended, or was told to end, before the task's first command or after. */
  readonly during: 'bootstrap' | 'run'
  readonly marks: GateMarks
}

/** Why the runtime ends a container; a later one that weighs more replaces an earlier one. */
export type StopCause = Exclude<ExitCause, 'exited' | 'lost'>

/** A task's container, running or ended. Releasing it kills and removes it. */
export interface RunningContainer extends Releasable {
  readonly id: string
  readonly name: string
  readonly image: string
  readonly imageDigest: string | null
  readonly plan: WorkspacePlan
  /** Whether it waited for the task, started ahead of time. */
  readonly parked: boolean
  /** What it did to its disk; known once it has ended. Never rejects. */
  disk(): Promise<DiskRecord>
  /** Settles once the container has ended, for whatever cause. Rejects only when the engine can't be asked any more. */
  readonly exit: Promise<Exit>
  /**
   * Settles when nothing of it runs any more, which the kernel may say before the engine does; at the latest with `exit`.
   * Never rejects.
   */
  readonly gone: Promise<void>
  /** What its network has seen so far. Never rejects. */
  egress(): Promise<Egress>
  /** Takes it off its network for good, so that another task may have that. */
  leaveNetwork(): Promise<void>
  /** What it has used until now, or until its end. */
  usage(): Measured | null
  /** Ends it: SIGTERM, the grace, SIGKILL. Returns at once; `exit` tells the rest. */
  stop(cause: Exclude<StopCause, 'limit'>): void
  /** Ends it at once: who passes a limit gets no time to go on with it. */
  stopOver(limit: Limit): void
}
