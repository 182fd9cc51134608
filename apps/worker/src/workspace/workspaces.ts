import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine } from '../engine/engine.js'
import type { Owner } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { personalize, placeFiles, writeContext } from './files.js'
import { makeDelivery } from './delivery.js'
import { isMountable, makeLayers } from './layers.js'
import type { Delivery, Slot, Strategy, WorkspacePlan } from './plan.js'
import { GIT_LIMITS, type GitLimits, Remotes } from './remotes.js'
import { removeTree } from './remove-tree.js'
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
    this.#snapshots = new Snapshots(options.dataDir, options.owner)
    this.#swept = this.#snapshots.sweep().catch(() => undefined)
    this.#remotes = new Remotes({
      limits: { ...GIT_LIMITS, ...options.limits },
      allowPrivate: options.allowPrivate,
    })
    this.#sources = new Sources(this.#snapshots, this.#remotes)
  }

  async prepare(accepted: AcceptedTask, { signal, progress }: PrepareOptions): Promise<WorkspacePlan> {
    signal.throwIfAborted()
    const { dataDir, owner: worker } = this.#options
    const owner = ownerFor(accepted.task.environment.profile)
    const slot = await makeSlot(dataDir, worker, owner)
    const made: Made = {}
    const release = () => releaseAll(slot, made)
    try {
      const { base, snapshot } = await this.#sources.take(accepted, slot.id, owner, { signal, progress })
      made.snapshot = snapshot
      const furnished = await this.#furnish(accepted, slot, snapshot, signal)
      made.delivery = await makeDelivery(this.#options.engine, worker, slot, furnished.layers)
      signal.throwIfAborted()
      return { slot, base, owner, release, delivery: made.delivery, ...furnished }
    } catch (error) {
      await release().catch(() => undefined)
      signal.throwIfAborted()
      throw inPhase(error)
    }
  }

  async close(): Promise<void> {
    await this.#swept
    await this.#remotes.close()
  }

  async #furnish(
    { task }: AcceptedTask,
    slot: Slot,
    snapshot: Snapshot,
    signal: Watch['signal'],
  ): Promise<Pick<WorkspacePlan, 'layers' | 'placed'>> {
    const owner = ownerFor(task.environment.profile)
    const layers = await makeLayers(this.#options.strategy, slot, snapshot.repo, owner, signal)
    await writeContext(slot, task)
    const placed = await placeFiles(task.workspace.files, slot, layers, owner)
    await personalize(task, layers, placed, owner)
    signal.throwIfAborted()
    return { layers, placed }
  }
}

/** What a workspace holds beside its slot, as far as it was made. */
interface Made {
  snapshot?: Snapshot
  delivery?: Delivery
}

/** What the engine has first: a mounted layer must not lose its files. */
async function releaseAll(slot: Slot, { delivery, snapshot }: Made): Promise<void> {
  await delivery?.release()
  await removeTree(slot.root)
  await snapshot?.unpin()
}

/** Whatever goes wrong here keeps its code and says where; what nobody foresaw is the worker's own disk. */
function inPhase(error: unknown): unknown {
  if (!(error instanceof TaskFailure) || error.phase !== null) return error
  return new TaskFailure(error.code, error.message, {
    phase: 'workspace',
    hint: error.hint,
    cause: error.cause,
  })
}
