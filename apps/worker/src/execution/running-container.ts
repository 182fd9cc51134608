import type { ExitCause } from '@agirunner/contracts'
import type { Releasable } from '../support/lifecycle.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import type { GateMarks } from './marks.js'
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
  /** Settles once the container has ended, for whatever cause. Rejects only when the engine can't be asked any more. */
  readonly exit: Promise<Exit>
  /** What it has used until now, or until its end. */
  usage(): Measured | null
  /** Ends it: SIGTERM, the grace, SIGKILL. Returns at once; `exit` tells the rest. */
  stop(cause: StopCause): void
}
