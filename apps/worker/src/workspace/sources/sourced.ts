import type { Placing } from '../files.js'
import type { Base, WorkspacePlan } from '../plan.js'
import type { Snapshot } from '../snapshots.js'

export interface Watch {
  readonly signal: AbortSignal
  readonly progress: (data: Record<string, unknown>) => void
}

/** The pristine folder below a task's own layer, for as long as it is not unpinned. */
export type Lower = Pick<Snapshot, 'repo' | 'unpin'>

/** What a workspace starts from. */
export interface Sourced extends Pick<WorkspacePlan, 'compareWith' | 'readOnly' | 'notes'> {
  readonly base: Base
  readonly lower: Lower
  /** What the source itself puts into the workspace, before `workspace.files`. */
  readonly files: readonly Placing[]
}

/** What is alike for every repository that the worker made itself. */
export const REPOSITORY = { compareWith: 'commit', readOnly: false, notes: [], files: [] } as const
