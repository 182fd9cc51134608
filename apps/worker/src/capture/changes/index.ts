import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ChildPool } from '../../workspace/children/pool.js'
import type { WorkspacePlan } from '../../workspace/plan.js'
import type { CapturedChanges, ChangesJob } from './job.js'

export type { CapturedChanges } from './job.js'

export interface CaptureOptions {
  readonly plan: WorkspacePlan
  /** Where to write the patch; made, or overwritten. */
  readonly patchFile: string
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
    capture: async ({ plan, patchFile, signal }) => {
      const view = join(plan.slot.root, 'view')
      if (plan.layers.strategy === 'overlay_volume') await mkdir(view, { recursive: true, mode: 0o700 })
      const { layers, base, placed, compareWith, notes } = plan
      const job: ChangesJob = {
        layers,
        view,
        compareWith,
        commit: base.commit,
        notes,
        placed,
        patchFile,
        slotRoot: plan.slot.root,
      }
      return await pool.run<CapturedChanges>('changes', job, { signal, deadlineMs })
    },
    close: () => pool.close(),
  }
}
