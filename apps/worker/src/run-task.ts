import { TaskFailure } from '@agirunner/contracts'
import type { AttemptState } from './attempt-state.js'
import { Capture, type CaptureOptions } from './capture/capture.js'
import type { Execution } from './execution/execution.js'
import type { Exit, RunningContainer } from './execution/running-container.js'
import type { AcceptedTask } from './intake/accepted-task.js'
import { asTaskFailure, judge } from './report/outcome.js'
import type { Reached } from './report/result.js'
import { NOTHING_REACHED } from './report/result.js'
import { ReleaseStack, type ReportLeak, withDeadline } from './support/lifecycle.js'
import type { Workspaces } from './workspace/index.js'

export interface Rooms {
  readonly workspaces: Workspaces
  readonly execution: Execution
  readonly capture: CaptureOptions
  readonly leaked: ReportLeak
}

/** How an attempt ended: null for success; and what it reached until then. */
export interface AttemptOutcome {
  readonly failure: TaskFailure | null
  readonly reached: Reached
}

/** The operator's deadlines for what is not the task's own time, in milliseconds. */
const WORKSPACE_MS = 15 * 60_000
const CAPTURE_MS = 10 * 60_000

/**
 * One task from claim to report. `settle` gets the outcome while the container still stands, because the result must
 * not wait for the cleanup; what it returns is returned when everything is given back.
 *
 * @param signal aborts the attempt with a TaskFailure as its reason: a cancel is captured like any other end, anything
 * else ends the attempt at once
 */
export async function runTask<T>(
  rooms: Rooms,
  accepted: AcceptedTask,
  state: AttemptState,
  signal: AbortSignal,
  settle: (outcome: AttemptOutcome) => Promise<T>,
): Promise<T> {
  const release = new ReleaseStack(rooms.leaked)
  let reached: Reached = NOTHING_REACHED
  try {
    rooms.execution.check(accepted)
    state.enter('workspace')
    const plan = release.own(await prepare(rooms, accepted, state, signal), 'workspace')
    reached = { ...reached, base: plan.base, layers: plan.layers, leftOut: plan.leftOut }
    const container = release.own(await rooms.execution.start(accepted, plan, state, signal), 'container')
    reached = { ...reached, container }
    const capture = await Capture.follow(rooms.capture, accepted, container, state)
    release.defer('log capture', () => capture.abandon())
    const exit = await exitOf(container, signal)
    const outputs = await withDeadline(
      { ms: CAPTURE_MS, code: 'capture.failed', what: 'reading what the task left', phase: 'capture' },
      deadline => capture.seal(exit, deadline),
    )
    reached = { ...reached, outputs, egress: await container.egress() }
    return await settle({
      failure: judge(accepted.task, outputs),
      reached: { ...reached, timings: state.timings() },
    })
  } catch (error) {
    const failure = asTaskFailure(error, state.phase)
    const egress = (await reached.container?.egress()) ?? reached.egress
    return await settle({ failure, reached: { ...reached, egress, timings: state.timings() } })
  } finally {
    await release.all()
  }
}

async function prepare(rooms: Rooms, accepted: AcceptedTask, state: AttemptState, signal: AbortSignal) {
  return await withDeadline(
    {
      ms: WORKSPACE_MS,
      code: 'workspace.timeout',
      what: 'preparing the workspace',
      phase: 'workspace',
      signal,
    },
    inner => rooms.workspaces.prepare(accepted, { signal: inner, progress: data => state.progress(data) }),
  )
}

/** Waits for the end. A cancel stops the container and is an end like any other; other aborts are thrown. */
async function exitOf(container: RunningContainer, signal: AbortSignal): Promise<Exit> {
  return await new Promise<Exit>((resolve, reject) => {
    const aborted = () => {
      const reason: unknown = signal.reason
      if (reason instanceof TaskFailure && reason.code === 'task.canceled') container.stop('canceled')
      else reject(reason as Error)
    }
    if (signal.aborted) aborted()
    else signal.addEventListener('abort', aborted, { once: true })
    container.exit.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted))
  })
}
