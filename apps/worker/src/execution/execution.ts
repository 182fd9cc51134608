import { chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { AttemptState } from '../attempt-state.js'
import type { TaskGroups } from '../engine/cgroup/task-groups.js'
import type { ContainerEngine, EngineInfo } from '../engine/engine.js'
import { LABELS, type Owner } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { Accounting } from './accounting.js'
import { AttachedLog } from './attached-log.js'
import { containerSpec, OPEN_NETWORK, taskEnvironment } from './container-spec.js'
import { renderGate } from './gate.js'
import { Images } from './images.js'
import { refuseUnenforced } from './limits-capability.js'
import type { RunningContainer } from './running-container.js'
import { newBorder } from './step-borders.js'
import { Supervisor } from './supervise.js'
import { refuseUnsupported } from './unsupported.js'

export interface ExecutionOptions {
  readonly engine: ContainerEngine
  readonly info: EngineInfo
  readonly owner: Owner
  /** Null where this worker can't make control groups of its own. */
  readonly groups: TaskGroups | null
  readonly allowRootProfile: boolean
  /** Called just before the task's first command: from here on the attempt counts. Rejects when it must not run. */
  readonly beforeRun: (accepted: AcceptedTask) => Promise<void>
}

/** Turns a plan into a running container. */
export class Execution {
  readonly #options: ExecutionOptions
  readonly #images: Images

  constructor(options: ExecutionOptions) {
    this.#options = options
    this.#images = new Images(options.engine)
  }

  /** @throws TaskFailure for what can't be run as the task says, before anything is made for it */
  check(accepted: AcceptedTask): void {
    refuseUnsupported(accepted, this.#options)
    refuseUnenforced(this.#options.info)
  }

  /**
   * Starts the task's container; it runs the task when this returns.
   *
   * @param signal aborts what is under way; a container that was made by then is removed before this throws
   * @throws TaskFailure `image.*`, `container.*`, `engine.unavailable`, or the signal's reason
   */
  async start(
    accepted: AcceptedTask,
    plan: WorkspacePlan,
    state: AttemptState,
    signal: AbortSignal,
  ): Promise<RunningContainer> {
    const { engine, owner, info } = this.#options
    const { task } = accepted
    state.enter('image')
    const image = await this.#images.ready(accepted, data => state.progress(data), signal)
    state.enter('create')
    if (task.environment.network.mode === 'open') await engine.ensureNetwork(OPEN_NETWORK, {})
    const border = plan.delivery.shared ? null : newBorder()
    await this.#writeGate(accepted, plan, border)
    await plan.delivery.send({ image: image.info.id, signal, progress: data => state.progress(data) })
    signal.throwIfAborted()
    const accounting = await Accounting.prepare(engine, this.#options.groups, task, plan.slot.id)
    const spec = {
      ...containerSpec(accepted, plan, {
        owner,
        engine: info,
        image: image.info,
        reference: image.reference,
      }),
      ...accounting.spec,
    }
    const id = await this.#create(spec).catch(async error => {
      await accounting.release()
      throw error
    })
    let log: AttachedLog | null = null
    try {
      signal.throwIfAborted()
      state.enter('start')
      if (border !== null) log = await AttachedLog.open({ engine, id, folder: plan.slot.log, border })
      await this.#options.beforeRun(accepted)
      signal.throwIfAborted()
      await engine.start(id)
    } catch (error) {
      await log?.abandon()
      await engine.remove(id)
      await accounting.release()
      throw error
    }
    state.enter('run')
    return this.#supervise(accepted, plan, log, accounting, {
      id,
      name: spec.name,
      image: image.reference,
      digest: image.info.digest ?? image.info.id,
    })
  }

  async #writeGate(accepted: AcceptedTask, plan: WorkspacePlan, border: string | null): Promise<void> {
    const { log, gate } = plan.slot
    const script = renderGate(accepted.task.run, taskEnvironment(accepted), { border, notes: notesOf(plan) })
    await Promise.all([
      writeFile(join(gate, 'f'), script, { mode: 0o444, flag: 'wx' }),
      ...['o', 'e', 's'].map(name => makeLogFile(join(log, name), plan)),
    ])
  }

  /** A container of the same name can only be left of an attempt of the same number that died: ours to replace. */
  async #create(spec: Parameters<ContainerEngine['create']>[0]): Promise<string> {
    const { engine, owner } = this.#options
    try {
      return await engine.create(spec)
    } catch (error) {
      const left = await this.#leftOver(spec.name)
      if (!left || left.labels[LABELS.stack] !== owner.stack) throw error
      await engine.remove(left.id)
      return await engine.create(spec)
    }
  }

  async #leftOver(name: string) {
    const known = await this.#options.engine.containers(`${LABELS.stack}=${this.#options.owner.stack}`)
    return known.find(container => container.name === name)
  }

  #supervise(
    accepted: AcceptedTask,
    plan: WorkspacePlan,
    log: AttachedLog | null,
    accounting: Accounting,
    made: { id: string; name: string; image: string; digest: string },
  ): RunningContainer {
    const { engine } = this.#options
    const { timeout, grace } = accepted.task.limits
    const supervisor = new Supervisor({
      engine,
      id: made.id,
      timeoutMs: timeout * 1000,
      graceMs: grace * 1000,
      marksFolder: plan.slot.log,
      settle: async () => {
        await log?.finish()
        await plan.delivery.collectMarks(new AbortController().signal)
      },
    })
    accounting.begin(made.id, plan.slot.log, () => supervisor.stop('idle'))
    const exit = supervisor.exit.then(ended => accounting.complete(ended))
    // As with the supervisor's own: whoever waits sees the rejection.
    exit.catch(() => undefined)
    return {
      id: made.id,
      name: made.name,
      image: made.image,
      imageDigest: made.digest,
      plan,
      exit,
      usage: () => accounting.usage(),
      stop: cause => supervisor.stop(cause),
      release: async () => {
        await log?.abandon()
        await engine.remove(made.id)
        await accounting.release()
      },
    }
  }
}

/** A few are named, the result has them all. */
const NAMED = 5

/** What a person who reads the log should know of the workspace. */
function notesOf({ leftOut }: WorkspacePlan): string[] {
  const reasons = [...new Set(leftOut.map(({ reason }) => reason))]
  return reasons.map(reason => {
    const paths = leftOut.filter(one => one.reason === reason).map(({ path }) => path)
    const more = paths.length > NAMED ? ` and ${paths.length - NAMED} more` : ''
    return `${reason}: ${paths.slice(0, NAMED).map(printable).join(', ')}${more}`
  })
}

/** A path is the repository's to choose: nothing in it may act on a terminal. */
function printable(path: string): string {
  return /^[\p{L}\p{N}\p{P}\p{S} ]+$/u.test(path) ? path : JSON.stringify(path)
}

/** The gate appends to it as the task's user. */
async function makeLogFile(path: string, { owner }: WorkspacePlan): Promise<void> {
  await writeFile(path, '', { flag: 'wx', mode: 0o600 })
  await chown(path, owner.uid, owner.gid)
}
