import { writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import type { AttemptState } from '../attempt-state.js'
import type { TaskGroups } from '../engine/cgroup/task-groups.js'
import type { ContainerEngine, EngineInfo } from '../engine/engine.js'
import { LABELS, type Owner } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { monotonicMs, sleep } from '../support/lifecycle.js'
import { isInit, processEnd } from '../support/process-end.js'
import type { ContainerFacts, Roster } from '../support/roster.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { savePlan } from '../workspace/saved-plan.js'
import { writeOwned } from '../workspace/slots.js'
import { Accounting } from './accounting.js'
import { AttachedLog } from './attached-log.js'
import type { Adopted } from './bootstrap-watch.js'
import { type Claim, noteState, writeClaim } from './claim.js'
import { containerName, containerSpec, limitsOf, secretVariables, taskEnvironment } from './container-spec.js'
import { DiskWatch } from './disk-watch.js'
import { renderGate, renderSecrets, SCRIPT_FILE, SECRETS_FILE, TASK_FILE } from './gate.js'
import type { Images, ReadyImage } from './images/images.js'
import type { Verification } from './images/verification.js'
import type { Networks, TaskNetwork } from './network/networks.js'
import type { ParkedContainer } from './parking/parked-container.js'
import type { ParkingLot } from './parking/parking-lot.js'
import { refuseProfile } from './profiles.js'
import type { RunningContainer } from './running-container.js'
import { type Shape, shapeOf } from './shape.js'
import { newBorder } from './step-borders.js'
import { Supervisor } from './supervise.js'

export interface ExecutionOptions {
  readonly engine: ContainerEngine
  readonly info: EngineInfo
  readonly owner: Owner
  readonly networks: Networks
  readonly roster: Roster
  readonly images: Images
  /** Containers that wait for tasks; null where none can. */
  readonly parking: ParkingLot | null
  readonly verification: Verification
  /** The operator's deadline for the bootstrap of a task, in milliseconds. */
  readonly bootstrapMs: number
  /** Null where this worker can't make control groups of its own. */
  readonly groups: TaskGroups | null
  readonly allowRootProfile: boolean
  readonly allowedRuntimes: readonly string[]
  /**
   * Called just before the container starts: from here on the attempt counts. With a bootstrap too, because the gate goes
   * from its last command to the task's first by itself, and nobody could put a mark between. Rejects when it must not run.
   */
  readonly beforeRun: (accepted: AcceptedTask) => Promise<void>
  /** Called when the engine has said, after `beforeRun`, that the container did not start: the attempt does not count. */
  readonly notStarted: (accepted: AcceptedTask) => Promise<void>
}

/** How long nothing else is done for a container once its gate is open, in milliseconds. */
const FIRST_BYTE_MS = 3

/** Turns a plan into a running container. */
export class Execution {
  readonly #options: ExecutionOptions

  constructor(options: ExecutionOptions) {
    this.#options = options
  }

  /** @throws TaskFailure for what can't be run as the task says, before anything is made for it */
  check(accepted: AcceptedTask): void {
    refuseProfile(accepted.task.environment, this.#options)
    this.#options.networks.check(accepted.task)
    this.#options.images.check(accepted.task.environment.image)
  }

  /** A container that waits for a task of this one's shape, with its slot; it is the caller's. Null when there is none. */
  reserve(accepted: AcceptedTask, state: AttemptState, signal: AbortSignal): Reservation | null {
    const { parking, images } = this.#options
    const shape = shapeOf(accepted, images.referenceOf(accepted.task.environment.image))
    const parked = parking?.take(shape) ?? null
    if (parked === null) return null
    const image = this.#readyImage(accepted, state, signal)
    const fit = this.#fit(parked, shape)
    // Awaited when the workspace is there; until then nobody is to blame.
    for (const promise of [image, fit]) promise.catch(() => undefined)
    return { parked, image, fit }
  }

  /**
   * Starts the task's container; it runs the task, or its bootstrap, when this returns.
   *
   * @param reserved what `reserve` gave; the plan is of its slot then
   * @param signal aborts what is under way; a container that was made by then is removed before this throws
   * @throws TaskFailure `image.*`, `container.*`, `engine.unavailable`, or the signal's reason
   */
  async start(starting: Starting, reserved: Reservation | null): Promise<RunningContainer> {
    const { accepted, state, signal } = starting
    state.enter('image')
    const image = await (reserved?.image ?? this.#readyImage(accepted, state, signal))
    const parked = reserved?.parked ?? null
    state.enter('create')
    const { parking } = this.#options
    const own = () => this.#startOwn(image, starting)
    if (parking === null) return await own()
    const shape = shapeOf(accepted, image.reference)
    const isFit = (await reserved?.fit) ?? true
    const opened = parked && (await this.#openParked(parked, isFit, image, starting))
    if (opened === null) return await parking.first(shape, image.info, own)
    parking.use(shape, image.info, opened.exit)
    return opened
  }

  /** Gives it the limits that the task is to have. @returns whether it has them */
  async #fit({ id, shape: { resources } }: ParkedContainer, { resources: wanted }: Shape): Promise<boolean> {
    if (resources.cpu === wanted.cpu && resources.memory === wanted.memory) return true
    const { engine, info } = this.#options
    return await engine.setLimits(id, limitsOf(wanted, info)).then(
      () => true,
      () => false,
    )
  }

  /** @returns null when it can't be used any more: then its container is gone, and its slot is as it was */
  async #openParked(
    parked: ParkedContainer,
    isFit: boolean,
    image: ReadyImage,
    { accepted, plan, state, signal }: Starting,
  ): Promise<RunningContainer | null> {
    // Somebody may have given the name to another image since.
    if (!isFit || parked.imageId !== image.info.id) return await this.#giveUp(parked, plan)
    const { engine, networks } = this.#options
    const network = await networks.assign(parked.network, accepted.task, place => state.egressDenied(place))
    const accounting = Accounting.of(engine, accepted.task, parked.group)
    const name = containerName(accepted)
    const made = { id: parked.id, name, image: image.reference, digest: image.digest }
    this.#enlist(accepted, made, accounting)
    try {
      state.enter('start')
      const counted = this.#options.beforeRun(accepted)
      counted.catch(() => undefined)
      this.#writeGate(accepted, plan, network, null, TASK_FILE)
      this.#claim(accepted, plan, network, made, state, true)
      await counted
      signal.throwIfAborted()
    } catch (error) {
      await parked.discard()
      await network.release()
      throw error
    }
    try {
      parked.open()
    } catch {
      await network.release()
      return await this.#giveUp(parked, plan)
    }
    state.enter(firstPhaseOf(accepted))
    // The kernel lets the shell that was woken run on this processor, in this thread's place: nothing to do but to hear of
    // its first byte, for as long as that takes.
    await sleep(FIRST_BYTE_MS)
    noteState(plan.slot.root, state.save())
    // Nobody waits for the name but who looks at the engine; a result is not written before.
    const renamed = engine.rename(parked.id, name).catch(() => undefined)
    const started = { accepted, plan, log: null, network, accounting, made, state }
    return this.#supervise({ ...started, adopted: null, parked: true, renamed })
  }

  async #giveUp(parked: ParkedContainer, { slot }: WorkspacePlan): Promise<null> {
    await parked.discard()
    await rm(join(slot.gate, SCRIPT_FILE), { force: true })
    return null
  }

  /** A container of the task's own, made now. */
  async #startOwn(image: ReadyImage, starting: Starting): Promise<RunningContainer> {
    const { accepted, state } = starting
    const network = await this.#options.networks.acquire(accepted.task, place => state.egressDenied(place))
    try {
      return await this.#startIn(network, image, starting)
    } catch (error) {
      await network.release()
      throw error
    }
  }

  async #startIn(
    network: TaskNetwork,
    image: ReadyImage,
    { accepted, plan, state, signal }: Starting,
  ): Promise<RunningContainer> {
    const { engine, owner, info } = this.#options
    const border = plan.delivery.shared ? null : newBorder()
    this.#writeGate(accepted, plan, network, border, SCRIPT_FILE)
    await plan.delivery.send({ image: image.info.id, signal, progress: data => state.progress(data) })
    signal.throwIfAborted()
    const accounting = await Accounting.prepare(engine, this.#options.groups, accepted.task, plan.slot.id)
    const spec = {
      ...containerSpec(shapeOf(accepted, image.reference), {
        name: containerName(accepted),
        kind: 'task',
        slot: plan.slot,
        user: plan.owner,
        delivery: plan.delivery,
        readOnly: plan.readOnly,
        owner,
        engine: info,
        image: image.info,
        network,
      }),
      ...accounting.spec,
    }
    const id = await this.#create(spec).catch(async error => {
      await accounting.release()
      throw error
    })
    const made = { id, name: spec.name, image: image.reference, digest: image.digest }
    this.#enlist(accepted, made, accounting)
    let log: AttachedLog | null = null
    try {
      signal.throwIfAborted()
      state.enter('start')
      this.#claim(accepted, plan, network, made, state, false)
      if (border !== null) log = await AttachedLog.open({ engine, id, folder: plan.slot.log, border })
      await this.#options.beforeRun(accepted)
      signal.throwIfAborted()
      await engine.start(id)
    } catch (error) {
      await log?.abandon()
      await engine.remove(id)
      await accounting.release()
      if (saysNotStarted(error)) await this.#options.notStarted(accepted)
      throw error
    }
    state.enter(firstPhaseOf(accepted))
    noteState(plan.slot.root, state.save())
    const started = { accepted, plan, log, network, accounting, made, state }
    return this.#supervise({ ...started, adopted: null, parked: false })
  }

  /** Removes a container that another worker started; repeatable. */
  async discard({ container }: Claim): Promise<void> {
    await this.#options.engine.remove(container.id)
  }

  /**
   * Goes on with a container that another worker started.
   *
   * @param running whether it had not ended yet
   * @throws TaskFailure `environment.unsupported`, `container.create_failed`; then the container is removed
   */
  async adopt(
    accepted: AcceptedTask,
    plan: WorkspacePlan,
    state: AttemptState,
    { claim, running }: { readonly claim: Claim; readonly running: boolean },
  ): Promise<RunningContainer> {
    const { engine, groups, networks } = this.#options
    const { container: made, worker } = claim
    const onDenied = (place: { host: string; port: number }) => state.egressDenied(place)
    const network = await networks.adopt(accepted.task, claim.network, onDenied).catch(async error => {
      await engine.remove(made.id)
      throw error
    })
    const accounting = Accounting.adopt(engine, groups, accepted.task, { slot: plan.slot.id, worker })
    const { name, image } = made
    const limits = { cpus: null, memoryBytes: null, pids: null }
    this.#options.roster.made(made.id, { name, kind: 'task', image, imageId: image, limits })
    this.#enlist(accepted, made, accounting)
    const startedAt = await engine.startedAt(made.id).catch(() => null)
    this.#options.roster.started(made.id, startedAt ?? Date.parse(claim.startedAt))
    // The worker died between the start and the mark of it.
    if (!state.ran) state.enter(firstPhaseOf(accepted), beganAt(claim, startedAt))
    const adopted = { since: state.save().since, running }
    return this.#supervise({
      accepted,
      plan,
      log: null,
      network,
      accounting,
      made,
      state,
      adopted,
      parked: claim.parked,
    })
  }

  #enlist(accepted: AcceptedTask, made: Claim['container'], accounting: Accounting): void {
    const { roster, info } = this.#options
    roster.describe(
      made.id,
      taskFacts(accepted, made, info, () => accounting.current()),
    )
  }

  /** Notes what another worker needs to go on with the container, where it can. */
  #claim(
    { task, attempt, fence, startedAt }: AcceptedTask,
    plan: WorkspacePlan,
    { saved: network }: TaskNetwork,
    container: Claim['container'],
    state: AttemptState,
    parked: boolean,
  ): void {
    const saved = savePlan(plan)
    if (saved === null) return
    const { worker } = this.#options.owner
    const { taskId } = task
    writeClaim(plan.slot.root, {
      version: 1,
      worker,
      taskId,
      attempt,
      fence,
      startedAt,
      container,
      plan: saved,
      parked,
      network,
      state: state.save(),
    })
  }

  /** The image on the engine's machine, and what the task needs of it known to be in it. */
  async #readyImage(
    { task, registryCredentials: credentials }: AcceptedTask,
    state: AttemptState,
    signal: AbortSignal,
  ): Promise<ReadyImage> {
    const { images, verification, info } = this.#options
    const { image, pullPolicy, bootstrap } = task.environment
    const progress = (data: Record<string, unknown>) => state.progress(data)
    const request = { image, pullPolicy, credentials, tenantId: task.tenantId }
    const ready = await images.ready(request, { signal, progress })
    // One for another platform runs where the machine emulates that; whether it does is seen by trying.
    if (bootstrap.length > 0 || ready.info.platform !== info.platform)
      await verification.require(ready.reference, ready.info, signal)
    return ready
  }

  /** Without leaving the thread: a handful of calls of some ten microseconds each, on every task's way. */
  #writeGate(
    accepted: AcceptedTask,
    plan: WorkspacePlan,
    network: TaskNetwork,
    border: string | null,
    name: string,
  ): void {
    const { gate } = plan.slot
    const { run, environment } = accepted.task
    const notes = [...notesOf(plan), ...secretNotes(accepted)]
    const { bootstrap } = environment
    const variables = secretVariables(accepted)
    const secrets = variables.size > 0
    const script = renderGate(run, taskEnvironment(accepted, network), { border, notes, bootstrap, secrets })
    if (secrets) writeOwned(join(gate, SECRETS_FILE), renderSecrets(variables), plan.owner)
    writeFileSync(join(gate, name), script, { mode: 0o444, flag: 'wx' })
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

  #supervise(started: Started): RunningContainer {
    const { accepted, plan, log, network, accounting, made, state, adopted, parked } = started
    const { engine, bootstrapMs } = this.#options
    const { timeout, grace } = accepted.task.limits
    const { environment } = accepted.task
    const { length: commands } = environment.bootstrap
    const supervisor = new Supervisor({
      engine,
      id: made.id,
      timeoutMs: timeout * 1000,
      graceMs: grace * 1000,
      marksFolder: plan.slot.log,
      bootstrap: state.phase === 'bootstrap' ? { commands, deadlineMs: bootstrapMs } : null,
      adopted,
      onTask: () => {
        state.reach('run')
        noteState(plan.slot.root, state.save())
      },
      settle: async () => {
        await log?.finish()
        await plan.delivery.collectMarks(new AbortController().signal)
      },
    })
    const { resources, profile } = environment
    const disk = new DiskWatch({
      engine,
      id: made.id,
      plan,
      diskBytes: resources.disk,
      outputBytes: accepted.task.limits.outputBytes,
      writableRoot: profile === 'root',
      onLimit: limit => supervisor.stop('limit', limit),
    })
    accounting.begin(made.id, plan.slot.log, () => supervisor.stop('idle'))
    const exit = supervisor.exit.then(async ended => {
      await started.renamed
      return await accounting.complete(ended)
    })
    // As with the supervisor's own: whoever waits sees the rejection.
    exit.catch(() => undefined)
    // A bootstrap's end may be found out together with the exit only.
    const isSeen = environment.runtime === null && plan.delivery.shared && commands === 0
    const gone = goneBy(supervisor.exit, isSeen ? accounting.pid : null)
    return {
      id: made.id,
      name: made.name,
      image: made.image,
      imageDigest: made.digest,
      plan,
      parked,
      exit,
      gone,
      usage: () => accounting.usage(),
      egress: () => network.egress(),
      disk: () => disk.finish(),
      stop: cause => supervisor.stop(cause),
      stopOver: limit => supervisor.stop('limit', limit),
      leaveNetwork: async () => {
        if (network.name !== 'none') await engine.disconnect(made.id, network.name)
        await network.release()
      },
      release: async () => {
        await disk.stop()
        await log?.abandon()
        await engine.remove(made.id)
        await accounting.release()
        // Not before: what is still in the network must not become another task's.
        await network.release()
      },
    }
  }
}

/** An attempt whose workspace is there, and what aborts it. */
export interface Starting {
  readonly accepted: AcceptedTask
  readonly plan: WorkspacePlan
  readonly state: AttemptState
  readonly signal: AbortSignal
}

/** A container that waits for the task, and the image that is to be its own, looked for meanwhile. */
export interface Reservation {
  readonly parked: ParkedContainer
  readonly image: Promise<ReadyImage>
  /** Whether it has the task's limits. */
  readonly fit: Promise<boolean>
}

/** A container that runs, and what belongs to it. */
interface Started {
  readonly accepted: AcceptedTask
  readonly plan: WorkspacePlan
  readonly log: AttachedLog | null
  readonly network: TaskNetwork
  readonly accounting: Accounting
  readonly made: Claim['container']
  readonly state: AttemptState
  readonly adopted: Adopted | null
  readonly parked: boolean
  /** Settles when the container has its task's name; not there where it had it from the start. */
  readonly renamed?: Promise<void>
}

/**
 * When nothing of a container runs any more: once its first process has ended, with which the kernel ends all others, or
 * when the engine says so.
 *
 * @param pid one of its processes, null where only the engine knows
 */
async function goneBy(exit: Promise<unknown>, pid: number | null): Promise<void> {
  const told = exit.then(
    () => undefined,
    () => undefined,
  )
  if (pid === null || !isInit(pid)) return await told
  const stop = new AbortController()
  await Promise.race([processEnd(pid, stop.signal), told])
  stop.abort()
}

/**
 * When a container began with its task, in milliseconds of the monotonic clock: one that waited was started before that.
 *
 * @param startedAt when the engine started it, in Unix milliseconds; null where it does not say
 */
function beganAt({ state: { since } }: Claim, startedAt: number | null): number {
  if (startedAt === null) return since
  return Math.max(since, monotonicMs() - Math.max(0, Date.now() - startedAt))
}

/** What a container begins with. */
function firstPhaseOf({ task }: AcceptedTask): 'bootstrap' | 'run' {
  return task.environment.bootstrap.length > 0 ? 'bootstrap' : 'run'
}

/** A task's container, for who looks at it. */
function taskFacts(
  { task, attempt, redactor }: AcceptedTask,
  { name, image, digest: imageDigest }: Claim['container'],
  info: EngineInfo,
  use: ContainerFacts['use'],
): ContainerFacts {
  const { taskId, tenantId, environment } = task
  const { resources, network } = environment
  return {
    name,
    kind: 'task',
    taskId,
    attempt,
    tenantId,
    labels: redactor.json(task.labels),
    image,
    imageDigest,
    network: network.mode,
    limits: { ...limitsOf(resources, info), pids: resources.pids },
    use,
  }
}

/** An engine that gave no answer may have started it. */
function saysNotStarted(error: unknown): boolean {
  return (
    error instanceof TaskFailure &&
    (error.code === 'container.start_failed' || error.code === 'image.incompatible')
  )
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

function secretNotes({ redactor }: AcceptedTask): string[] {
  return redactor.notMaskable.map(name => `the secret ${name} is too short to be masked in this log`)
}

/** A path is the repository's to choose: nothing in it may act on a terminal. */
function printable(path: string): string {
  return /^[\p{L}\p{N}\p{P}\p{S} ]+$/u.test(path) ? path : JSON.stringify(path)
}
