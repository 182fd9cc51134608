import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Changes, LogSummary, RedisNames, StepResult } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import type { AttemptState } from '../attempt-state.js'
import { commandNames } from '../execution/commands.js'
import type { DiskRecord } from '../execution/disk-watch.js'
import type { Exit, RunningContainer } from '../execution/running-container.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { artifactFolder } from './artifacts.js'
import type { CapturedChanges, CommitRequest, MadeCommit } from './changes/index.js'
import { commitRequest, withCommit } from './commit.js'
import { LogCapture } from './log/log-capture.js'
import { LogStream } from './log/log-stream.js'
import { type Output, readOutput } from './output.js'

/** Everything that a run leaves behind, read after the container has ended. */
export interface CapturedOutputs {
  readonly exit: Exit
  readonly steps: readonly StepResult[]
  readonly logs: LogSummary
  readonly changes: Changes | null
  /** The change as a commit; null where none was asked for or nothing changed. */
  readonly made: MadeCommit | null
  readonly output: Output
  /** Whether the task printed more than the operator allows. */
  readonly overLogCeiling: boolean
  readonly disk: DiskRecord
}

/** Reads the change of a workspace and writes it as a patch. */
export type CaptureChanges = (options: {
  plan: WorkspacePlan
  patchFile: string
  make: CommitRequest | null
  signal: AbortSignal
}) => Promise<CapturedChanges>

export interface CaptureOptions {
  readonly redis: Redis
  readonly names: RedisNames
  readonly dataDir: string
  readonly logCeilingBytes: number
  readonly captureChanges: CaptureChanges
}

const NO_CHANGES = { changes: null, made: null }

/** One attempt's capture: follows the log from the start, reads the rest at the end. */
export class Capture {
  readonly #options: CaptureOptions
  readonly #accepted: AcceptedTask
  readonly #container: RunningContainer
  readonly #state: AttemptState
  readonly #folder: string
  readonly #log: LogCapture

  static async follow(
    options: CaptureOptions,
    accepted: AcceptedTask,
    container: RunningContainer,
    state: AttemptState,
  ): Promise<Capture> {
    const folder = await artifactFolder(options.dataDir, accepted)
    const { task } = accepted
    const stream = await LogStream.open(options.redis, options.names, { ...accepted, taskId: task.taskId })
    const log = await LogCapture.open({
      folder: container.plan.slot.log,
      file: join(folder, 'log'),
      stream,
      redactor: accepted.redactor,
      steps: commandNames(task),
      limitBytes: task.limits.logBytes,
      ceilingBytes: options.logCeilingBytes,
      onTruncated: bytes => state.logTruncated({ limitBytes: bytes }),
      onCeiling: () => container.stopOver('task.log_limit'),
    })
    return new Capture(options, accepted, container, state, folder, log)
  }

  private constructor(
    options: CaptureOptions,
    accepted: AcceptedTask,
    container: RunningContainer,
    state: AttemptState,
    folder: string,
    log: LogCapture,
  ) {
    this.#options = options
    this.#accepted = accepted
    this.#container = container
    this.#state = state
    this.#folder = folder
    this.#log = log
  }

  /**
   * Reads what the ended container left, whatever ended it.
   *
   * @throws TaskFailure `capture.failed`
   */
  async seal(exit: Exit, signal: AbortSignal): Promise<CapturedOutputs> {
    this.#state.enter('capture')
    const { plan } = this.#container
    // Before anything is read, because reading may write where the engine shares no files.
    const disk = await this.#container.disk()
    const [logs, changes, output] = await Promise.all([
      this.#log.finish(),
      this.#accepted.task.capture.changes === 'none' ? NO_CHANGES : this.#changes(plan, signal),
      this.#output(plan, signal),
    ])
    return {
      exit,
      steps: this.#steps(exit),
      logs,
      ...changes,
      output,
      overLogCeiling: this.#log.overCeiling,
      disk,
    }
  }

  /** Stops following, for an attempt that will not be reported. */
  async abandon(): Promise<void> {
    await this.#log.abandon()
  }

  async #changes(
    plan: WorkspacePlan,
    signal: AbortSignal,
  ): Promise<Pick<CapturedOutputs, 'changes' | 'made'>> {
    await plan.delivery.collect('repo', signal)
    const patchFile = join(this.#folder, 'changes.patch')
    const make = commitRequest(this.#accepted, plan, this.#folder)
    const { changes, patch, made } = await this.#options.captureChanges({ plan, patchFile, make, signal })
    const stored = patch && { uri: pathToFileURL(patchFile).href, ...patch }
    return { changes: withCommit({ ...changes, patch: stored }, make, made), made }
  }

  async #output(plan: WorkspacePlan, signal: AbortSignal): Promise<Output> {
    await plan.delivery.collect('output', signal)
    const { outputSchema } = this.#accepted.task.capture
    return await readOutput({ folder: plan.slot.output, schema: outputSchema, signal })
  }

  #steps(exit: Exit): StepResult[] {
    const marks = new Map(exit.marks.steps.map(step => [step.index, step]))
    const { run, environment } = this.#accepted.task
    return (run.steps ?? []).map(({ name }, index) => {
      const mark = marks.get(environment.bootstrap.length + index)
      return { name, exitCode: mark?.exitCode ?? null, durationMs: mark?.durationMs ?? null }
    })
  }
}
