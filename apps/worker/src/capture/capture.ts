import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Artifact, Changes, LogSummary, RedisNames, Skipped, StepResult } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import type { AttemptState } from '../attempt-state.js'
import { commandNames } from '../execution/commands.js'
import { type DiskRecord, UNSEEN_DISK } from '../execution/disk-watch.js'
import type { Exit, RunningContainer } from '../execution/running-container.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { Releasable } from '../support/lifecycle.js'
import type { Roster } from '../support/roster.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { artifactFolder, resumeFolder } from './artifacts/folder.js'
import type { CapturedChanges, ChangesCapture, CommitRequest, MadeCommit } from './changes/index.js'
import { commitRequest, secretsOf, withCommit } from './commit.js'
import { LogCapture } from './log/log-capture.js'
import { LogStream } from './log/log-stream.js'
import { type Output, readOutput } from './output.js'
import type { AttemptStorage } from './storage.js'

/** Everything that a run leaves behind, read after the container has ended. */
export interface CapturedOutputs {
  readonly exit: Exit
  readonly steps: readonly StepResult[]
  readonly logs: LogSummary
  readonly changes: Changes | null
  /** The change as a commit; null where none was asked for or nothing changed. */
  readonly made: MadeCommit | null
  readonly output: Output
  readonly artifacts: readonly Artifact[]
  /** What would have been an artifact, and why it is none. */
  readonly skipped: readonly Skipped[]
  /** Whether the task printed more than the operator allows. */
  readonly overLogCeiling: boolean
  readonly disk: DiskRecord
}

/** Reads the change of a workspace and writes it as a patch. */
export type CaptureChanges = (options: {
  plan: WorkspacePlan
  patchFile: string
  make: CommitRequest | null
  secrets: CommitRequest['secrets']
  signal: AbortSignal
}) => Promise<CapturedChanges>

export interface CaptureOptions {
  readonly redis: Redis
  readonly names: RedisNames
  readonly roster: Roster
  readonly dataDir: string
  readonly logCeilingBytes: number
  readonly captureChanges: CaptureChanges
  readonly collectArtifacts: ChangesCapture['artifacts']
  readonly storage: AttemptStorage
}

const NO_CHANGES = { changes: null, made: null }
/** Below an attempt's folder. */
const FILES = 'files'
const LOG = 'log'

/** One attempt's capture: follows the log from the start, reads the rest at the end. */
export class Capture implements Releasable {
  readonly #options: CaptureOptions
  readonly #accepted: AcceptedTask
  readonly #plan: WorkspacePlan
  readonly #state: AttemptState
  readonly #folder: string
  readonly #log: LogCapture
  #container: RunningContainer | null = null
  #isElsewhere = false

  /**
   * Follows the log of a container that need not be there yet, whose first byte is seen when it comes. Of an attempt of
   * which nobody can have followed it before, all is in place without leaving the thread.
   *
   * @param how.resume whether another worker has followed it before
   */
  static async follow(
    options: CaptureOptions,
    accepted: AcceptedTask,
    plan: WorkspacePlan,
    state: AttemptState,
    { resume }: { readonly resume: boolean },
  ): Promise<Capture> {
    const { redis, names, dataDir, logCeilingBytes } = options
    const { task, attempt } = accepted
    const isNew = attempt === 1 && !resume
    const stream = await LogStream.open(redis, names, { ...accepted, taskId: task.taskId }, isNew)
    const folder = resume
      ? await resumeFolder(dataDir, accepted, [LOG, `${LOG}.index`])
      : artifactFolder(dataDir, accepted)
    let onCeiling = () => {}
    const log = await LogCapture.open({
      folder: plan.slot.log,
      file: join(folder, LOG),
      stream,
      resume,
      redactor: accepted.redactor,
      steps: commandNames(task),
      limitBytes: task.limits.logBytes,
      ceilingBytes: logCeilingBytes,
      onTruncated: bytes => state.logTruncated({ limitBytes: bytes }),
      onCeiling: () => onCeiling(),
    }).catch(async error => {
      if (!resume) await rm(folder, { recursive: true, force: true })
      throw error
    })
    const capture = new Capture(options, accepted, plan, state, folder, log)
    onCeiling = () => capture.#stopOver()
    return capture
  }

  private constructor(
    options: CaptureOptions,
    accepted: AcceptedTask,
    plan: WorkspacePlan,
    state: AttemptState,
    folder: string,
    log: LogCapture,
  ) {
    this.#options = options
    this.#accepted = accepted
    this.#plan = plan
    this.#state = state
    this.#folder = folder
    this.#log = log
  }

  /** The container runs. */
  attend(container: RunningContainer): void {
    this.#container = container
    this.#options.roster.heard(container.id, () => this.#log.lastLine())
    const { notMaskable } = this.#accepted.redactor
    if (notMaskable.length > 0) this.#state.progress({ secretsTooShortToMask: notMaskable })
    if (this.#log.overCeiling) this.#stopOver()
  }

  #stopOver(): void {
    this.#container?.stopOver('task.log_limit')
  }

  /**
   * Reads what a container left of which nothing runs any more, whatever ended it.
   *
   * @throws TaskFailure `capture.failed`
   */
  async seal(exiting: Promise<Exit>, signal: AbortSignal): Promise<CapturedOutputs> {
    this.#state.enter('capture')
    const plan = this.#plan
    // Before anything is read, because reading may write where the engine shares no files.
    const disk = (await this.#container?.disk()) ?? UNSEEN_DISK
    const [logs, changes, output] = await Promise.all([
      this.#log.finish(),
      this.#accepted.task.capture.changes === 'none' ? NO_CHANGES : this.#changes(plan, signal),
      this.#output(plan, signal),
    ])
    // After the others, which have brought to this disk what is looked through here.
    const kept = await this.#artifacts(plan, signal)
    const exit = await exiting
    const sealed = {
      exit,
      steps: this.#steps(exit),
      logs,
      ...changes,
      output,
      ...kept,
      overLogCeiling: this.#log.overCeiling,
      disk,
    }
    const { storage } = this.#options
    const stored = await storage.publish(this.#accepted, this.#folder, sealed, signal)
    this.#isElsewhere = !storage.isLocal
    return stored
  }

  /** As `abandon`; what was written for a container that never ran goes too. */
  async release(): Promise<void> {
    await this.abandon()
    if (this.#container === null) await rm(this.#folder, { recursive: true, force: true })
  }

  /** Stops following, and gives back the folder of what has been stored elsewhere. Repeatable. */
  async abandon(): Promise<void> {
    await this.#log.abandon()
    await this.#log.settled()
    if (this.#isElsewhere) await rm(this.#folder, { recursive: true, force: true })
  }

  async #changes(
    plan: WorkspacePlan,
    signal: AbortSignal,
  ): Promise<Pick<CapturedOutputs, 'changes' | 'made'>> {
    await plan.delivery.collect('repo', signal)
    const patchFile = join(this.#folder, 'changes.patch')
    const make = commitRequest(this.#accepted, plan, this.#folder)
    const { changes, patch, made } = await this.#options.captureChanges({
      plan,
      patchFile,
      make,
      secrets: secretsOf(this.#accepted),
      signal,
    })
    const stored = patch && { uri: pathToFileURL(patchFile).href, ...patch }
    return { changes: withCommit({ ...changes, patch: stored }, make, made), made }
  }

  async #output(plan: WorkspacePlan, signal: AbortSignal): Promise<Output> {
    await plan.delivery.collect('output', signal)
    const { outputSchema } = this.#accepted.task.capture
    return await readOutput({ folder: plan.slot.output, schema: outputSchema, signal })
  }

  async #artifacts(
    plan: WorkspacePlan,
    signal: AbortSignal,
  ): Promise<Pick<CapturedOutputs, 'artifacts' | 'skipped'>> {
    const { capture, limits } = this.#accepted.task
    if (capture.artifacts.length === 0 && (await isEmpty(plan.slot.output)))
      return { artifacts: [], skipped: [] }
    if (capture.changes === 'none' && capture.artifacts.length > 0)
      await plan.delivery.collect('repo', signal)
    const target = join(this.#folder, FILES)
    const { files, skipped } = await this.#options.collectArtifacts({
      plan,
      globs: capture.artifacts,
      target,
      maxBytes: limits.outputBytes,
      secrets: secretsOf(this.#accepted),
      signal,
    })
    const artifacts = files.map(({ name, ...file }) => ({
      ...file,
      uri: pathToFileURL(join(target, name)).href,
    }))
    return { artifacts, skipped }
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

/** Whether a task left nothing in its output, but for its result. */
async function isEmpty(output: string): Promise<boolean> {
  return (await readdir(output)).every(name => name === 'result.json')
}
