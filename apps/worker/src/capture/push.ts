import { join } from 'node:path'
import { type Changes, TaskFailure } from '@agirunner/contracts'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { BranchPush, PushWatch } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import type { CapturedOutputs } from './capture.js'
import type { KeepOptions, KeptCommits } from './changes/index.js'
import { packOf, saidOf, secretsOf } from './commit.js'

export interface PushOptions {
  /** Sets a branch of the task's repository. */
  readonly push: (accepted: AcceptedTask, what: BranchPush, watch: PushWatch) => Promise<void>
  readonly keepCommits: (options: KeepOptions) => Promise<KeptCommits>
  /** Throws when a later attempt of the task has taken over. */
  readonly stillCurrent: (accepted: AcceptedTask) => Promise<void>
}

export interface PushRequest {
  readonly accepted: AcceptedTask
  readonly plan: WorkspacePlan
  readonly outputs: CapturedOutputs
  /** What the attempt failed of; null when it succeeded. */
  readonly failure: TaskFailure | null
  readonly signal: AbortSignal
  readonly progress: (data: Record<string, unknown>) => void
}

/** What was captured, with what became of the push; and the attempt's failure, which that may have become. */
export interface Delivered {
  readonly outputs: CapturedOutputs
  readonly failure: TaskFailure | null
}

/**
 * Pushes what was captured to the branch that the task names. Only what succeeded is pushed: a branch is where others go
 * on, and the patch of what failed is in its result.
 *
 * @throws the signal's reason when the attempt must end without a word
 */
export async function deliver(options: PushOptions, request: PushRequest): Promise<Delivered> {
  const { accepted, outputs, failure, signal } = request
  const wanted = accepted.task.capture.push
  const { changes } = outputs
  if (wanted === null || changes === null) return { outputs, failure }
  const noting = (text: string) => ({ ...outputs, changes: { ...changes, notes: [...changes.notes, text] } })
  if (failure !== null)
    return { outputs: noting('nothing was pushed, because the task did not succeed'), failure }
  try {
    const what = await whatToPush(options, request, changes)
    if (what === null) return { outputs: noting('nothing changed, so nothing was pushed'), failure }
    const mayPush = () => options.stillCurrent(accepted)
    await options.push(accepted, what, { signal, progress: request.progress, mayPush })
    const pushed = { branch: what.branch, sha: what.sha }
    return { outputs: { ...outputs, changes: { ...changes, pushed } }, failure }
  } catch (error) {
    const canceled = signal.aborted && isCancel(signal.reason)
    if (signal.aborted && !canceled) throw signal.reason
    if (canceled) {
      const note = `the task was canceled before its push was confirmed; whether branch "${wanted.branch}" was set is not known`
      return { outputs: noting(note), failure: inCapture(signal.reason) }
    }
    if (!(error instanceof TaskFailure)) throw error
    return { outputs, failure: error.code === 'worker.lease_lost' ? error : inCapture(error) }
  }
}

function isCancel(reason: unknown): reason is TaskFailure {
  return reason instanceof TaskFailure && reason.code === 'task.canceled'
}

function inCapture(error: TaskFailure): TaskFailure {
  const { code, message, hint, cause } = error
  return new TaskFailure(code, message, { phase: 'capture', hint, cause })
}

/** @returns null when there is nothing to push */
async function whatToPush(
  options: PushOptions,
  request: PushRequest,
  changes: Changes,
): Promise<BranchPush | null> {
  const { accepted, plan, outputs } = request
  const wanted = accepted.task.capture.push
  if (wanted === null) return null
  refuseWithheld(changes, outputs.made?.holdsSecret ?? false)
  const { branch, force } = wanted
  const base = plan.base.commit && { commit: plan.base.commit, gitDir: join(plan.layers.lower, '.git') }
  const common = { branch, force, base: base || null }
  if (wanted.commits === 'keep') {
    const kept = await keep(options, request, changes)
    if (kept.sha === null) return null
    refuseWithheld(changes, kept.holdsSecret)
    return { ...common, sha: kept.sha, commits: kept.commits, pack: packOf(plan, 'kept') }
  }
  const { made } = outputs
  return made && { ...common, sha: made.sha, commits: [made.sha], pack: packOf(plan, 'made') }
}

async function keep(
  { keepCommits }: PushOptions,
  { accepted, plan, outputs, signal }: PushRequest,
  { tree }: Changes,
): Promise<KeptCommits> {
  return await keepCommits({
    plan,
    signal,
    tree,
    madePack: outputs.made && packOf(plan, 'made'),
    rest: saidOf(accepted),
    pack: packOf(plan, 'kept'),
    secrets: secretsOf(accepted),
  })
}

/** The one place that keeps a task's secrets from its branch: those in the objects, and a patch that was withheld. */
function refuseWithheld(changes: Changes, holdsSecret: boolean): void {
  const patchWithheld = changes.files.length > 0 && changes.patch === null
  if (!holdsSecret && !patchWithheld) return
  throw new TaskFailure('push.rejected', 'what would be pushed holds one of the task’s secrets', {
    hint: 'keep secrets out of the repository, such as by a .gitignore',
  })
}
