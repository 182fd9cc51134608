import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { Cache, type CacheBudget, type Pruned } from '@agirunner/cache'
import { TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine } from '../engine/engine.js'
import type { Owner } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { CacheKeeper, type CacheStatus } from './cache-keeper.js'
import { diskFull, isDiskFull } from './disk-full.js'
import { personalize, placeFiles, writeContext } from './files.js'
import type { NotFetched } from './git/checkout.js'
import { isMountable, makeLayers, makeMount, volumeName } from './layers.js'
import type { Slot, Strategy, WorkspacePlan } from './plan.js'
import { GIT_LIMITS, type GitLimits, Remotes } from './remotes.js'
import { removeTree } from './remove-tree.js'
import { Repositories } from './repositories.js'
import { makeSlot, ownerFor } from './slots.js'
import { type Snapshot, Snapshots } from './snapshots.js'
import { Sources, type Watch } from './sources.js'

export interface WorkspacesOptions {
  /** Absolute; everything that this room makes is below it. */
  readonly dataDir: string
  readonly engine: ContainerEngine
  readonly owner: Owner
  /** As `probeStrategy` found it, or forced. */
  readonly strategy: Strategy
  /** Whether git hosts may be loopback, private or link-local. */
  readonly allowPrivate: boolean
  /** What the cache may occupy, and what must stay free beside it. */
  readonly cache: CacheBudget
  /** Overrides of GIT_LIMITS. */
  readonly limits?: Partial<GitLimits>
}

export interface PrepareOptions {
  readonly signal: AbortSignal
  /** Told `{stage: 'resolve' | 'fetch' | 'checkout', …}` at most about four times a second. */
  readonly progress: (data: Record<string, unknown>) => void
}

/** Turns accepted tasks into workspaces. */
export interface Workspaces {
  /**
   * Makes one task's workspace: pins the snapshot of its commit, and makes the slot and what is mounted from it. When
   * it throws, nothing of it is left.
   *
   * @throws TaskFailure `workspace.*`, `environment.unsupported`, `engine.unavailable`; the signal's reason
   */
  prepare(accepted: AcceptedTask, options: PrepareOptions): Promise<WorkspacePlan>
  /** Evicts from the cache what its budget has no room for. */
  prune(): Promise<Pruned>
  /** How the cache does. */
  cacheStatus(): CacheStatus
  /** Ends the git children. Workspaces that were made stay usable and releasable. */
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
  readonly #sources: Sources
  readonly #swept: Promise<void>

  constructor(options: WorkspacesOptions) {
    if (options.strategy === 'overlay_volume' && !isMountable(options.dataDir)) {
      throw new Error(
        `data folder ${options.dataDir} can't be mounted: its path must not hold spaces, "," or ":"`,
      )
    }
    this.#options = options
    mkdirSync(join(options.dataDir, 'snapshots/staging'), { recursive: true, mode: 0o711 })
    const cache = new Cache(options.dataDir)
    this.#keeper = new CacheKeeper(cache, options.cache)
    this.#snapshots = new Snapshots(options.dataDir, cache, this.#keeper, options.owner)
    this.#swept = Promise.all([this.#snapshots.sweep(), cache.emptyTrash()]).then(
      () => undefined,
      () => undefined,
    )
    this.#remotes = new Remotes({
      limits: { ...GIT_LIMITS, ...options.limits },
      allowPrivate: options.allowPrivate,
    })
    const repositories = new Repositories(options.dataDir, cache, options.owner)
    this.#sources = new Sources(this.#snapshots, repositories, this.#remotes)
  }

  async prepare(accepted: AcceptedTask, { signal, progress }: PrepareOptions): Promise<WorkspacePlan> {
    signal.throwIfAborted()
    const { dataDir, owner: worker } = this.#options
    const owner = ownerFor(accepted.task.environment.profile)
    const slot = await makeSlot(dataDir, worker, owner)
    const made: { snapshot?: Snapshot } = {}
    const release = () => this.#release(slot, made.snapshot)
    try {
      const { base, snapshot } = await this.#sources.take(accepted, slot.id, owner, { signal, progress })
      made.snapshot = snapshot
      const leftOut = leftOutOf(snapshot.notFetched)
      return {
        slot,
        base,
        owner,
        leftOut,
        release,
        ...(await this.#furnish(accepted, slot, snapshot, signal)),
      }
    } catch (error) {
      await release().catch(() => undefined)
      signal.throwIfAborted()
      throw inPhase(error)
    }
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
    await this.#remotes.close()
  }

  async #furnish(
    { task }: AcceptedTask,
    slot: Slot,
    snapshot: Snapshot,
    signal: Watch['signal'],
  ): Promise<Pick<WorkspacePlan, 'layers' | 'mount' | 'placed'>> {
    const { strategy, engine, owner: worker } = this.#options
    const owner = ownerFor(task.environment.profile)
    const layers = await makeLayers(strategy, slot, snapshot.repo, owner, signal)
    await writeContext(slot, task)
    const placed = await placeFiles(task.workspace.files, slot, layers, owner)
    await personalize(task, layers, placed, owner)
    signal.throwIfAborted()
    const mount = await makeMount(engine, worker, slot, layers)
    signal.throwIfAborted()
    return { layers, mount, placed }
  }

  /** The volume first: a mounted layer must not lose its files. */
  async #release(slot: Slot, snapshot: Snapshot | undefined): Promise<void> {
    if (this.#options.strategy === 'overlay_volume') await this.#options.engine.removeVolume(volumeName(slot))
    await removeTree(slot.root)
    await snapshot?.unpin()
  }
}

function leftOutOf({ submodules, lfs }: NotFetched): WorkspacePlan['leftOut'] {
  return [
    ...submodules.map(path => ({ path: `repo/${path}`, reason: 'submodule, not fetched' })),
    ...lfs.map(path => ({ path: `repo/${path}`, reason: 'content in git-LFS, not fetched' })),
  ]
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
