import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import { ChildPool } from '../../workspace/children/pool.js'
import { isOverlay, type WorkspacePlan } from '../../workspace/plan.js'
import type { ArtifactsJob, Collected } from '../artifacts/collect.js'
import type { CapturedChanges, ChangesJob } from './job.js'
import type { KeepJob, KeptCommits } from './keep-commits.js'
import type { CommitRequest } from './make-commit.js'
import type { ToldSecret } from './told-secrets.js'

export type { CapturedChanges } from './job.js'
export type { KeptCommits } from './keep-commits.js'
export type { CommitRequest, MadeCommit } from './make-commit.js'

export interface CaptureOptions {
  readonly plan: WorkspacePlan
  /** Where to write the patch; made, or overwritten. */
  readonly patchFile: string
  /** How to make a commit of the change as well; null for none. */
  readonly make?: CommitRequest | null
  /** What must not be in the patch; nothing by default. */
  readonly secrets?: readonly ToldSecret[]
  readonly signal: AbortSignal
}

export interface KeepOptions extends Omit<KeepJob, 'layers' | 'view' | 'slotRoot' | 'commit'> {
  readonly plan: WorkspacePlan
  readonly signal: AbortSignal
}

export interface ArtifactsOptions extends Pick<ArtifactsJob, 'globs' | 'target' | 'maxBytes' | 'secrets'> {
  readonly plan: WorkspacePlan
  readonly signal: AbortSignal
}

/** Reads the changes of workspaces. */
export interface ChangesCapture {
  /**
   * Reads what a task did to its repository and writes it as a patch that is verified: applied to the base commit it
   * gives `changes.tree`. The container must be dead; its volume must still be there.
   *
   * @throws TaskFailure `capture.failed`; the signal's reason when that aborted
   */
  capture(options: CaptureOptions): Promise<CapturedChanges>
  /**
   * Takes the commits that a task made itself out of its repository, once it was captured.
   *
   * @throws TaskFailure `push.rejected` when they can't be kept; the signal's reason when that aborted
   */
  keepCommits(options: KeepOptions): Promise<KeptCommits>
  /**
   * Copies what a task left to be kept. The repository and the output must have been collected.
   *
   * @throws TaskFailure `capture.failed`; the signal's reason when that aborted
   */
  artifacts(options: ArtifactsOptions): Promise<Collected>
  close(): Promise<void>
}

export interface ChangesCaptureOptions {
  /** How many captures may run at once. */
  readonly children?: number
  readonly deadlineMs?: number
  /** What one capture may hold in memory. */
  readonly maxMemoryBytes?: number
}

/** Comparing is CPU-bound and its size the task's choice: it runs in child processes with limits. */
export function createChangesCapture(options: ChangesCaptureOptions = {}): ChangesCapture {
  const { children = 2, deadlineMs = 5 * 60_000, maxMemoryBytes = 3 * 2 ** 30 } = options
  const pool = new ChildPool({
    module: new URL('./child.js', import.meta.url),
    size: children,
    heapMiB: Math.ceil(maxMemoryBytes / 2 ** 21),
    rssBytes: maxMemoryBytes,
    privateMounts: process.getuid?.() === 0,
    phase: 'capture',
    failures: { late: 'capture.failed', large: 'capture.failed', died: 'capture.failed' },
  })
  return {
    capture: async ({ plan, patchFile, make = null, secrets = [], signal }) => {
      const view = await viewOf(plan)
      const { layers, base, placed, compareWith, notes } = plan
      const job: ChangesJob = {
        layers,
        view,
        compareWith,
        commit: base.commit,
        notes,
        placed,
        patchFile,
        secrets,
        make,
        slotRoot: plan.slot.root,
      }
      return await pool.run<CapturedChanges>('changes', job, { signal, deadlineMs })
    },
    keepCommits: async ({ plan, signal, ...options }) => {
      const { layers, base, slot } = plan
      const view = await viewOf(plan)
      const job: KeepJob = { ...options, layers, view, slotRoot: slot.root, commit: base.commit }
      return await pool.run<KeptCommits>('keep', job, { signal, deadlineMs }).catch((error: unknown) => {
        throw asUnkept(error)
      })
    },
    artifacts: async ({ plan, signal, ...options }) => {
      const { layers, slot } = plan
      const view = await viewOf(plan)
      const { output, context, root: slotRoot } = slot
      const job: ArtifactsJob = { ...options, layers, view, slotRoot, output, context }
      return await pool.run<Collected>('artifacts', job, { signal, deadlineMs })
    },
    close: () => pool.close(),
  }
}

/** Where the merged view of an overlay may be mounted. */
async function viewOf({ slot, layers }: WorkspacePlan): Promise<string> {
  const view = join(slot.root, 'view')
  if (isOverlay(layers)) await mkdir(view, { recursive: true, mode: 0o700 })
  return view
}

/** What kills a child is the task's own repository: everything else of the capture went well before. */
function asUnkept(error: unknown): unknown {
  if (!(error instanceof TaskFailure) || error.code !== 'capture.failed') return error
  return new TaskFailure('push.rejected', `the task's own commits can't be kept: ${error.message}`, {
    phase: 'capture',
    hint: 'with capture.push.commits "squash" the change is pushed as one commit',
    cause: error,
  })
}
