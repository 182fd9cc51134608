import type { Placing } from '../files.js'
import type { NotFetched } from '../git/checkout.js'
import type { Base, WorkspacePlan } from '../plan.js'
import type { Snapshot } from '../snapshots.js'

export interface Watch {
  readonly signal: AbortSignal
  readonly progress: (data: Record<string, unknown>) => void
}

/** The pristine folder below a task's own layer, for as long as it is not unpinned. */
export type Lower = Pick<Snapshot, 'repo' | 'unpin'>

/** What a workspace starts from. */
export interface Sourced extends Pick<WorkspacePlan, 'compareWith' | 'readOnly' | 'notes' | 'leftOut'> {
  readonly base: Base
  readonly lower: Lower
  /** What the source itself puts into the workspace, before `workspace.files`. */
  readonly files: readonly Placing[]
}

/** Of a repository that the worker made itself. */
export function repositoryOf(snapshot: Snapshot, base: Base): Sourced {
  const leftOut = leftOutOf(snapshot.notFetched)
  return { base, lower: snapshot, compareWith: 'commit', readOnly: false, notes: [], leftOut, files: [] }
}

function leftOutOf({ submodules, lfs }: NotFetched): WorkspacePlan['leftOut'] {
  return [
    ...submodules.map(path => ({ path: `repo/${path}`, reason: 'submodule, not fetched' })),
    ...lfs.map(path => ({ path: `repo/${path}`, reason: 'content in git-LFS, not fetched' })),
  ]
}
