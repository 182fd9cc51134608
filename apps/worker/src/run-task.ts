import { TaskFailure } from '@agirunner/contracts'
import type { AttemptState } from './attempt-state.js'
import { Capture, type CapturedOutputs, type CaptureOptions } from './capture/capture.js'
import { deliver, type PushOptions } from './capture/push.js'
import type { Claim } from './execution/claim.js'
import type { Execution } from './execution/execution.js'
import type { Keeper } from './execution/keep.js'
import type { Exit, RunningContainer } from './execution/running-container.js'
import type { AcceptedTask } from './intake/accepted-task.js'
import { asTaskFailure, judge } from './report/outcome.js'
import type { Reached } from './report/result.js'
import { NOTHING_REACHED } from './report/result.js'
import type { Backlog } from './support/backlog.js'
import { monotonicMs, ReleaseStack, type ReportLeak, withDeadline } from './support/lifecycle.js'
import type { Workspaces } from './workspace/index.js'
import type { Slot } from './workspace/plan.js'

export interface Rooms {
  readonly workspaces: Workspaces
  readonly execution: Execution
  readonly capture: CaptureOptions
  readonly push: PushOptions
  readonly keeper: Keeper
  readonly leaked: ReportLeak
  /** The removal of what tasks leave that have ended. */
  readonly owed: Backlog
}

/** A container that a worker has started which is dead by now. */
export interface Begun {
  readonly claim: Claim
  /** Whether it had not ended when it was taken over. */
  readonly running: boolean
}

/** How an attempt ended: null for success; and what it reached until then. */
export interface AttemptOutcome {
  readonly failure: TaskFailure | null
  readonly reached: Reached
}

/** The operator's deadlines for what is not the task's own time, in milliseconds. */
const WORKSPACE_MS = 15 * 60_000
const CAPTURE_MS = 10 * 60_000
/** How long the capture of a task goes on that is canceled meanwhile, in milliseconds. */
const CANCELED_CAPTURE_MS = 1000

/**
 * One task from claim to report. `settle` gets the outcome while the container still stands, because the result must
 * not wait for the cleanup; what it returns is returned when everything is given back, or owed to `rooms.owed`.
 *
 * @param begun what a worker that died has begun; null to begin
 * @param signal aborts the attempt with a TaskFailure as its reason: a cancel is captured like any other end, anything
 * else ends the attempt at once
 */
export async function runTask<T extends { readonly type: string }>(
  rooms: Rooms,
  accepted: AcceptedTask,
  state: AttemptState,
  signal: AbortSignal,
  settle: (outcome: AttemptOutcome) => Promise<T>,
  begun: Begun | null = null,
): Promise<T> {
  const release = new ReleaseStack(rooms.leaked)
  let reached: Reached = NOTHING_REACHED
  try {
    if (begun === null) rooms.execution.check(accepted)
    const reserved = begun === null ? rooms.execution.reserve(accepted, state, signal) : null
    if (reserved) release.own(reserved.parked, 'parked container')
    const slot = reserved?.parked.slot ?? null
    const plan = release.own(
      begun ? rooms.workspaces.adopt(begun.claim.plan) : await prepare(rooms, accepted, state, signal, slot),
      'workspace',
    )
    if (begun) release.defer('container of a dead worker', () => rooms.execution.discard(begun.claim))
    reached = { ...reached, base: plan.base, layers: plan.layers, leftOut: plan.leftOut }
    // Before the container writes anything.
    const following = Capture.follow(rooms.capture, accepted, plan, state, { resume: begun !== null })
    // Awaited when the container runs; until then nobody is to blame.
    following.catch(() => undefined)
    release.defer('log capture', async () => await (await following.catch(() => null))?.release())
    const container = release.own(
      begun
        ? await rooms.execution.adopt(accepted, plan, state, begun)
        : await rooms.execution.start({ accepted, plan, state, signal }, reserved),
      'container',
    )
    reached = { ...reached, container }
    const capture = await following
    capture.attend(container)
    // First of all: who may not report must not write either.
    release.defer('log', () => capture.abandon())
    const exiting = exitOf(container, signal)
    // Whoever waits for it below sees it; that may be later.
    exiting.catch(() => undefined)
    await Promise.race([container.gone, exiting])
    const sealedOutputs = await sealed(capture, exiting, signal)
    const { exit } = sealedOutputs
    reached = { ...reached, outputs: sealedOutputs, egress: await container.egress() }
    const judged = canceledIn(signal, exit) ?? judge(accepted.task, sealedOutputs)
    const progress = (data: Record<string, unknown>) => state.progress(data)
    const { outputs, failure } = await deliver(rooms.push, {
      accepted,
      plan,
      outputs: sealedOutputs,
      failure: judged,
      signal,
      progress,
    })
    reached = { ...reached, outputs }
    const settled = await settle(await ended({ failure, reached }, state))
    const cleanUp = async () => {
      if (await rooms.keeper.keep(accepted, container, failure)) release.disown()
      await cleanedUp(release, state)
    }
    // Once the task has ended, the next one need not wait for what it left. Before another attempt of its own all of it goes:
    // who cancels it then is told so at once, and that nothing of it is there.
    if (begun === null && settled.type === 'ended') await rooms.owed.add(cleanUp)
    else await cleanUp()
    return settled
  } catch (error) {
    const egress = (await reached.container?.egress()) ?? reached.egress
    const failure = asTaskFailure(error, state.phase)
    try {
      return await settle(await ended({ failure, reached: { ...reached, egress } }, state))
    } finally {
      await cleanedUp(release, state)
    }
  }
}

async function cleanedUp(release: ReleaseStack, state: AttemptState): Promise<void> {
  const begun = monotonicMs()
  await release.all()
  state.cleanedUp(monotonicMs() - begun)
}

async function prepare(
  rooms: Rooms,
  accepted: AcceptedTask,
  state: AttemptState,
  signal: AbortSignal,
  slot: Slot | null,
) {
  state.enter('workspace')
  return await withDeadline(
    {
      ms: WORKSPACE_MS,
      code: 'workspace.timeout',
      what: 'preparing the workspace',
      phase: 'workspace',
      signal,
    },
    inner =>
      rooms.workspaces.prepare(accepted, { signal: inner, progress: data => state.progress(data), slot }),
  )
}

/** Reads what the task left. A cancel that comes meanwhile leaves it a moment, no more. */
async function sealed(capture: Capture, exit: Promise<Exit>, signal: AbortSignal): Promise<CapturedOutputs> {
  const late = new AbortController()
  const abort = () => late.abort(signal.reason)
  let timer: NodeJS.Timeout | undefined
  const aborted = () => {
    timer = setTimeout(abort, cancelOf(signal) === null ? 0 : CANCELED_CAPTURE_MS)
  }
  // A task that was canceled while it ran is captured in full.
  if (cancelOf(signal) === null) signal.addEventListener('abort', aborted, { once: true })
  try {
    return await withDeadline(
      {
        ms: CAPTURE_MS,
        code: 'capture.failed',
        what: 'reading what the task left',
        phase: 'capture',
        signal: late.signal,
      },
      deadline => capture.seal(exit, deadline),
    )
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', aborted)
  }
}

function cancelOf({ reason }: AbortSignal): TaskFailure | null {
  return reason instanceof TaskFailure && reason.code === 'task.canceled' ? reason : null
}

/** A cancel that came before everything was read; also one that did not reach the task any more. */
function canceledIn(signal: AbortSignal, { cause, during }: Exit): TaskFailure | null {
  const canceled = cancelOf(signal)
  if (canceled === null) return null
  return new TaskFailure(canceled.code, canceled.message, {
    phase: cause === 'canceled' ? during : 'capture',
  })
}

/**
 * An attempt's outcome as it may be told. A task is canceled when the engine has confirmed that its container is gone,
 * not before.
 */
async function ended({ failure, reached }: AttemptOutcome, state: AttemptState): Promise<AttemptOutcome> {
  const told = { failure, reached: { ...reached, timings: state.timings() } }
  if (failure?.code !== 'task.canceled' || reached.container === null) return told
  try {
    await reached.container.release()
    return told
  } catch (error) {
    const why = `the task was canceled, but its container may still be there: ${(error as Error).message}`
    return { ...told, failure: new TaskFailure('engine.unavailable', why, { cause: error }) }
  }
}

/** Waits for the end. A cancel stops the container and is an end like any other; other aborts are thrown. */
async function exitOf(container: RunningContainer, signal: AbortSignal): Promise<Exit> {
  return await new Promise<Exit>((resolve, reject) => {
    const aborted = () => {
      if (cancelOf(signal)) container.stop('canceled')
      else reject(signal.reason as Error)
    }
    if (signal.aborted) aborted()
    else signal.addEventListener('abort', aborted, { once: true })
    container.exit.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted))
  })
}
