import { TaskFailure } from '@agirunner/contracts'
import type { Pushed, PushJob } from './git/push-job.js'
import { withRetries } from './git/retry.js'
import { TransientFailure } from './git/transport.js'

export interface PushWatch {
  readonly signal: AbortSignal
  readonly progress: (data: Record<string, unknown>) => void
  /** Asked right before each try; throws when this attempt's word does not count any more. */
  readonly mayPush: () => Promise<void>
}

/** What a try that never ended, or whose child died, means for the branch. */
const AWAY: ReadonlySet<string> = new Set([
  'workspace.timeout',
  'workspace.too_large',
  'workspace.remote_broken',
  'workspace.remote_unreachable',
])

/**
 * Tries a push until the server has said something, the budget is spent or the signal aborts.
 *
 * @param once one try, in a child process
 * @throws TaskFailure `push.rejected`, `push.unreachable`, `workspace.auth_failed`, `.not_found`, `.url_forbidden`; what
 * `mayPush` throws; the signal's reason
 */
export async function pushBranch(
  job: PushJob,
  once: (job: PushJob) => Promise<Pushed>,
  { signal, progress, mayPush }: PushWatch,
): Promise<void> {
  let sent = false
  const attempt = async () => {
    await mayPush()
    const pushed = await once(job).catch((error: unknown) => asPushed(error, signal))
    if (pushed.state === 'pushed') return
    sent ||= pushed.sent
    throw unreachable(pushed, sent)
  }
  try {
    await withRetries({ budgetMs: job.retryMs, progress, signal }, attempt)
  } catch (error) {
    signal.throwIfAborted()
    throw inPhase(error)
  }
}

function unreachable({ reason, again }: Exclude<Pushed, { state: 'pushed' }>, sent: boolean): TaskFailure {
  const Failure = again ? TransientFailure : TaskFailure
  const unsure = sent ? '; the branch may have been set without our hearing of it' : ''
  return new Failure('push.unreachable', `${reason}${unsure}`)
}

/** @throws what is no matter of the way to the server */
function asPushed(error: unknown, signal: AbortSignal): Pushed {
  if (signal.aborted || !(error instanceof TaskFailure) || !AWAY.has(error.code)) throw error
  return { state: 'unreachable', reason: error.message, again: false, sent: true }
}

function inPhase(error: unknown): unknown {
  if (!(error instanceof TaskFailure)) return error
  return new TaskFailure(error.code, error.message, {
    phase: 'capture',
    hint: error.hint,
    cause: error.cause,
  })
}
