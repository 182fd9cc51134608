import type {
  AttemptRecord,
  Failure,
  Skipped,
  Status,
  Task,
  TaskJobData,
  TaskResult,
  Timings,
} from '@agirunner/contracts'
import type { CapturedOutputs } from '../capture/capture.js'
import { type Egress, NO_EGRESS } from '../execution/network/networks.js'
import type { RunningContainer } from '../execution/running-container.js'
import type { Measured } from '../execution/usage.js'
import type { Base, RepositoryLayers } from '../workspace/plan.js'

/** What is known of a task that could not even be parsed. */
export interface TaskIdentity {
  readonly taskId: string
  readonly tenantId: string
  readonly labels: Readonly<Record<string, string>>
}

/** What an attempt reached; null for what it did not. */
export interface Reached {
  readonly outputs: CapturedOutputs | null
  readonly container: RunningContainer | null
  readonly base: Base | null
  readonly layers: RepositoryLayers | null
  readonly leftOut: readonly Skipped[]
  readonly egress: Egress
  readonly timings: Timings | null
}

export const NOTHING_REACHED: Reached = {
  outputs: null,
  container: null,
  base: null,
  layers: null,
  leftOut: [],
  egress: NO_EGRESS,
  timings: null,
}

const NO_TIMINGS: Timings = {
  queuedMs: null,
  workspaceMs: null,
  imageMs: null,
  createMs: null,
  startMs: null,
  bootstrapMs: null,
  runMs: null,
  captureMs: null,
  reportMs: null,
}

const NOTHING_MEASURED: Measured = {
  cpuMs: null,
  memoryPeakBytes: null,
  pidsPeak: null,
  networkRxBytes: null,
  networkTxBytes: null,
}

/** The result of the contract; every key is there, null where it was not reached. */
export function buildResult(options: {
  identity: TaskIdentity
  task: Task | null
  status: Status
  failure: Failure | null
  createdAt: string
  attempts: readonly AttemptRecord[]
  reached: Reached
  worker: { id: string; host: string }
}): TaskResult {
  const { reached, identity, attempts } = options
  const { outputs, container } = reached
  const timings = reached.timings ?? NO_TIMINGS
  return {
    version: 1,
    taskId: identity.taskId,
    tenantId: identity.tenantId,
    labels: { ...identity.labels },
    status: options.status,
    failure: options.failure,
    createdAt: options.createdAt,
    startedAt: attempts[0]?.startedAt ?? null,
    finishedAt: new Date().toISOString(),
    attempts: [...attempts],
    exit: outputs && {
      code: outputs.exit.code,
      signal: outputs.exit.signal,
      oomKilled: outputs.exit.oomKilled,
      cause: outputs.exit.cause,
    },
    steps: outputs
      ? [...outputs.steps]
      : (options.task?.run.steps ?? []).map(({ name }) => ({ name, exitCode: null, durationMs: null })),
    base: reached.base && { url: reached.base.url, ref: reached.base.ref, commit: reached.base.commit },
    changes: outputs?.changes ?? null,
    output: outputs?.output.value ?? null,
    artifacts: [...(outputs?.artifacts ?? [])],
    skipped: [...reached.leftOut, ...(outputs?.skipped ?? [])],
    logs: outputs?.logs ?? null,
    usage: {
      wallMs: timings.runMs,
      ...NOTHING_MEASURED,
      ...container?.usage(),
      diskBytes: outputs?.disk.bytes ?? null,
    },
    timings,
    egressDenied: [...reached.egress.denied],
    container: container && {
      id: container.id,
      name: container.name,
      image: container.image,
      imageDigest: container.imageDigest,
      parked: container.parked,
      strategy: reached.layers?.strategy ?? 'copy',
    },
    worker: { ...options.worker },
  }
}

/** What can be said of a task, parsed or not. */
export function identify(taskId: string, data: TaskJobData): TaskIdentity {
  const raw = (typeof data.task === 'object' && data.task !== null ? data.task : {}) as Record<
    string,
    unknown
  >
  const labels = typeof raw.labels === 'object' && raw.labels !== null ? Object.entries(raw.labels) : []
  return {
    taskId,
    tenantId: typeof raw.tenantId === 'string' ? raw.tenantId : 'default',
    labels: Object.fromEntries(
      labels.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    ),
  }
}
