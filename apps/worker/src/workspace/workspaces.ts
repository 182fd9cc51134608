import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Cache, type CacheBudget, type Pruned } from '@agirunner/cache'
import { TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine } from '../engine/engine.js'
import type { Owner } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { sweepLocks } from '../support/file-lock.js'
import type { HostRoot } from '../support/host-roots.js'
import { CacheKeeper, type CacheStatus } from './cache-keeper.js'
import { makeDelivery } from './delivery.js'
import type { TaskDisks } from './disk/task-disks.js'
import { diskFull, isDiskFull } from './disk-full.js'
import { personalize, placeFiles, placingsOf, writeContext } from './files.js'
import type { PushJob } from './git/push-job.js'
import { isLive, lateDelivery } from './late-overlay.js'
import { isMountable, makeLayers } from './layers.js'
import type { Delivery, Slot, Strategy, WorkspacePlan } from './plan.js'
import type { PushWatch } from './push.js'
import { GIT_LIMITS, type GitLimits, Remotes } from './remotes.js'
import { Repositories } from './repositories.js'
import { restorePlan, type SavedPlan } from './saved-plan.js'
import { secretsFolder, whyNoSecrets, writeSecrets } from './secrets.js'
import { type FileOwner, makeSlot, ownerFor, removeSlot } from './slots.js'
import { Snapshots } from './snapshots.js'
import { ArtifactSeeds } from './sources/artifacts.js'
import type { EarlierArtifacts } from './sources/earlier-artifacts.js'
import { HostDirectories } from './sources/host-directory.js'
import type { Lower, Sourced, Watch } from './sources/sourced.js'
import { remoteOf, Sources } from './sources.js'

export interface WorkspacesOptions {
  /** Absolute; everything that this room makes is below it. */
  readonly dataDir: string
  readonly engine: ContainerEngine
  readonly owner: Owner
  /** As `probeStrategy` found it, or forced. */
  readonly strategy: Strategy
  /** Gives each task a disk of its own; null where the worker can't, and something else has to watch what is written. */
  readonly disks: TaskDisks | null
  /** Whether git hosts may be loopback, private or link-local. */
  readonly allowPrivate: boolean
  /** What the cache may occupy, and what must stay free beside it. */
  readonly cache: CacheBudget
  /** Below which folders `host_directory` may name one. */
  readonly hostRoots: readonly HostRoot[]
  /** Where `workspace_artifacts` finds what earlier tasks left. */
  readonly earlier: EarlierArtifacts
  /** Gives up what takes room on the disk and waits for nobody yet. */
  readonly giveUpSpares?: () => Promise<void>
  /** Overrides of GIT_LIMITS. */
  readonly limits?: Partial<GitLimits>
}

export interface PrepareOptions {
  readonly signal: AbortSignal
  /** Told `{stage: 'resolve' | 'fetch' | 'checkout' | 'copy', …}` at most about four times a second. */
  readonly progress: (data: Record<string, unknown>) => void
  /** One that `makeSlot` made, with a container that waits in it; the workspace does not own it. */
  readonly slot?: Slot | null
}

/** A branch, and what it is to be set to. */
export type BranchPush = Pick<PushJob, 'branch' | 'sha' | 'force' | 'pack' | 'commits' | 'base'>

/** Turns accepted tasks into workspaces. */
export interface Workspaces {
  /**
   * Makes one task's workspace: pins the snapshot of its commit, and makes the slot and what is mounted from it. When
   * it throws, nothing of it is left.
   *
   * @throws TaskFailure `workspace.*`, `spec.forbidden`, `engine.unavailable`; the signal's reason
   */
  prepare(accepted: AcceptedTask, options: PrepareOptions): Promise<WorkspacePlan>
  /**
   * A slot for a task that is not known yet, of a container that waits for one.
   *
   * @throws Error where nothing can be mounted late, or there is no room
   */
  makeSlot(shape: {
    profile: 'user' | 'root'
    diskBytes: number
    secrets: boolean
  }): Promise<{ slot: Slot; delivery: Delivery; owner: FileOwner; remove: () => Promise<void> }>
  /** The workspace of a container that another worker started. */
  adopt(saved: SavedPlan): WorkspacePlan
  /**
   * Sets a branch of the task's own repository, with its credentials.
   *
   * @throws TaskFailure `push.*`, `workspace.auth_failed`, `.not_found`, `.url_forbidden`; the signal's reason
   */
  push(accepted: AcceptedTask, what: BranchPush, watch: PushWatch): Promise<void>
  /** Evicts from the cache what its budget has no room for. */
  prune(): Promise<Pruned>
  /** How the cache does. */
  cacheStatus(): CacheStatus
  /** Ends the children. Workspaces that were made stay usable and releasable. */
  close(): Promise<void>
}

/** @throws Error when the strategy can't work with that data folder */
export function createWorkspaces(options: WorkspacesOptions): Workspaces {
  return new WorkspaceRoom(options)
}

class WorkspaceRoom implements Workspaces {
  readonly #options: WorkspacesOptions
  readonly #snapshots: Snapshots
  readonly #keeper: CacheKeeper
  readonly #remotes: Remotes
  readonly #hostDirectories: HostDirectories
  readonly #sources: Sources
  readonly #swept: Promise<void>

  constructor(options: WorkspacesOptions) {
    if (options.strategy.includes('overlay') && !isMountable(options.dataDir)) {
      throw new Error(
        `data folder ${options.dataDir} can't be mounted: its path must not hold spaces, "," or ":"`,
      )
    }
    this.#options = options
    mkdirSync(join(options.dataDir, 'snapshots/staging'), { recursive: true, mode: 0o711 })
    const cache = new Cache(options.dataDir)
    this.#keeper = new CacheKeeper(cache, options.cache)
    this.#snapshots = new Snapshots(options.dataDir, cache, this.#keeper, options.owner)
    const locks = join(options.dataDir, 'locks')
    const sweeps = [this.#snapshots.sweep(), cache.emptyTrash(), sweepLocks(locks, options.owner)]
    this.#swept = Promise.all(sweeps).then(
      () => undefined,
      () => undefined,
    )
    const limits = { ...GIT_LIMITS, ...options.limits }
    this.#remotes = new Remotes({ limits, allowPrivate: options.allowPrivate })
    this.#hostDirectories = new HostDirectories({ roots: options.hostRoots, limits })
    const repositories = new Repositories(options.dataDir, cache, options.owner)
    this.#sources = new Sources(this.#snapshots, repositories, this.#remotes, {
      hostDirectories: this.#hostDirectories,
      seeds: new ArtifactSeeds(options.earlier, limits.maxTreeBytes),
    })
  }

  async prepare(
    accepted: AcceptedTask,
    { signal, progress, slot: given = null }: PrepareOptions,
  ): Promise<WorkspacePlan> {
    signal.throwIfAborted()
    const why = accepted.secrets.size > 0 ? whyNoSecrets(this.#options.strategy) : null
    if (why !== null)
      throw new TaskFailure('environment.unsupported', `this worker can't give secrets to tasks: ${why}`)
    const owner = ownerFor(accepted.task.environment.profile)
    const slot = given ?? (await this.#slotFor(accepted, owner))
    const made: Made = {}
    const release = () => releaseAll(slot, made, given === null)
    try {
      const sourced = await this.#sources.take(accepted, slot, owner, { signal, progress })
      made.lower = sourced.lower
      const { base, compareWith, readOnly, notes, leftOut } = sourced
      writeSecrets(slot, accepted, owner)
      const furnished = await this.#furnish(accepted, slot, sourced, made, signal)
      slot.disk?.begin()
      return { slot, base, compareWith, readOnly, notes, leftOut, owner, release, ...furnished }
    } catch (error) {
      const onItsDisk = isDiskFull(error) && isFull(slot)
      await release().catch(() => undefined)
      signal.throwIfAborted()
      throw inPhase(onItsDisk ? tooLarge(accepted, error) : error)
    }
  }

  async makeSlot({ profile, diskBytes, secrets }: Parameters<Workspaces['makeSlot']>[0]) {
    const { dataDir, owner: worker, disks } = this.#options
    if (disks === null) throw new Error('tasks have no disks of their own')
    const owner = ownerFor(profile)
    const wanted = { disks: { from: disks, bytes: diskBytes }, withMemory: secrets, late: true }
    const slot = await makeSlot(dataDir, worker, owner, wanted)
    if (!isLive(slot)) throw new Error('nothing can be mounted late')
    if (slot.memory !== null) mkdirSync(secretsFolder(slot) ?? '', { mode: 0o755 })
    return { slot, delivery: lateDelivery(slot), owner, remove: () => removeSlot(slot) }
  }

  adopt(saved: SavedPlan): WorkspacePlan {
    return restorePlan(saved, this.#options.engine)
  }

  /** The room for what the task may write is taken at once: a task that began would be the wrong one to lack it. */
  async #slotFor({ task, secrets }: AcceptedTask, owner: FileOwner): Promise<Slot> {
    const { dataDir, owner: worker, disks } = this.#options
    const bytes = task.environment.resources.disk
    const withMemory = secrets.size > 0
    const late = this.#options.strategy === 'late_overlay'
    const make = () =>
      makeSlot(dataDir, worker, owner, { disks: disks && { from: disks, bytes }, withMemory, late })
    try {
      return await make()
    } catch (error) {
      if (!isDiskFull(error)) throw inPhase(error)
      // What nobody uses gives way to a task.
      await this.#options.giveUpSpares?.()
      await disks?.dropSpares()
      await this.#keeper.prune()
      return await make().catch(again => {
        throw inPhase(again)
      })
    }
  }

  async push(accepted: AcceptedTask, what: BranchPush, watch: PushWatch): Promise<void> {
    const { source } = accepted.task.workspace
    if (source.type !== 'git_remote') throw new Error('only a git_remote can be pushed to')
    await this.#remotes.push({ ...what, remote: remoteOf(accepted, source) }, watch)
  }

  prune(): Promise<Pruned> {
    return this.#keeper.prune()
  }

  cacheStatus(): CacheStatus {
    const { bytes, maxBytes } = this.#keeper
    return { bytes, maxBytes, ...this.#snapshots.counts }
  }

  async close(): Promise<void> {
    await this.#swept
    await this.#keeper.close()
    await Promise.all([this.#remotes.close(), this.#hostDirectories.close()])
  }

  async #furnish(
    { task }: AcceptedTask,
    slot: Slot,
    { lower, files, readOnly }: Sourced,
    made: Made,
    signal: Watch['signal'],
  ): Promise<Pick<WorkspacePlan, 'layers' | 'delivery' | 'placed'>> {
    const owner = ownerFor(task.environment.profile)
    const { strategy, engine, owner: worker } = this.#options
    const layers = await makeLayers(strategy, slot, lower.repo, owner, signal)
    const deliver = async () => {
      made.delivery = await makeDelivery(engine, worker, slot, layers, readOnly)
      return made.delivery
    }
    // The engine makes a volume, which it looks into only when it mounts it, while we write what goes into it. What we mount
    // ourselves must be whole before.
    const early = layers.strategy === 'late_overlay' ? null : deliver()
    try {
      writeContext(slot, task)
      const placings = [...files, ...placingsOf(task.workspace.files)]
      const placed = await placeFiles(placings, slot, layers, owner)
      // What the task may only read is shown as it is.
      if (!readOnly) personalize(task, layers, placed, owner)
      const delivery = await (early ?? deliver())
      signal.throwIfAborted()
      return { layers, delivery, placed }
    } finally {
      // A volume that comes after its removal would stay.
      await early?.catch(() => undefined)
    }
  }
}

function isFull({ disk }: Slot): boolean {
  try {
    return disk?.usage().full === true
  } catch {
    return false
  }
}

function tooLarge({ task }: AcceptedTask, cause: unknown): TaskFailure {
  const { disk } = task.environment.resources
  const message = `the workspace does not fit on the task's disk of ${disk} bytes`
  return new TaskFailure('workspace.too_large', message, { hint: 'raise environment.resources.disk', cause })
}

/** What a workspace holds beside its slot, as far as it was made. */
interface Made {
  lower?: Lower
  delivery?: Delivery
}

/** What the engine has first: a mounted layer must not lose its files. */
async function releaseAll(slot: Slot, { delivery, lower }: Made, withSlot: boolean): Promise<void> {
  await delivery?.release()
  if (withSlot) await removeSlot(slot)
  await lower?.unpin()
}

/** Whatever goes wrong here keeps its code and says where; what nobody foresaw is the worker's own disk. */
function inPhase(error: unknown): unknown {
  if (error instanceof Error && !(error instanceof TaskFailure) && isDiskFull(error))
    return inPhase(diskFull(error))
  if (!(error instanceof TaskFailure) || error.phase !== null) return error
  return new TaskFailure(error.code, error.message, {
    phase: 'workspace',
    hint: error.hint,
    cause: error.cause,
  })
}
