import { readdirSync } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { TaskGroups } from '../engine/cgroup/task-groups.js'
import type { ContainerEngine } from '../engine/engine.js'
import { keptUntil, LABELS, type Owner } from '../engine/labels.js'
import { readClaim } from '../execution/claim.js'
import { isAlive } from '../support/identity.js'
import { type Log, messageOf } from '../support/log.js'
import { readOwner, reapDisk, reapDisks, reapMemory, type SlotOwner } from '../workspace/index.js'

export interface ReaperOptions {
  readonly engine: ContainerEngine
  readonly owner: Owner
  /** Null where this worker makes no control groups. */
  readonly groups: TaskGroups | null
  readonly dataDir: string
  readonly log: Log
  /** Whether a worker of our stack still renews its heartbeat. */
  readonly hasHeartbeat: (workerId: string) => Promise<boolean>
}

/** How long a worker with another data folder may take to come back, in milliseconds. */
const ADOPTION_MS = 60_000
const SLOT = /^[0-9a-f-]{36}$/

type Labels = Readonly<Record<string, string>>

/**
 * Removes what dead workers left: containers in any state, volumes, networks, slots. It looks at labels and owner files alone,
 * and touches only what it is sure of: on its own host the owner's process must be gone, elsewhere the owner must
 * belong to the same stack and have lost its heartbeat.
 */
export class Reaper {
  readonly #options: ReaperOptions
  /** Slots whose container outlasts its task: whether it still may. What belongs to one has no other owner. */
  readonly #kept = new Map<string, boolean>()
  readonly #takenOver = new Set<string>()
  #round: Promise<number> = Promise.resolve(0)
  /** Slots of other folders or queues whose worker is dead, and since when that is known, in Unix milliseconds. */
  readonly #orphaned = new Map<string, number>()
  /** What had been taken over when the round began: of these, and no later ones, it knows whether they are kept. */
  #known: ReadonlySet<string> = new Set()

  constructor(options: ReaperOptions) {
    this.#options = options
  }

  /** Takes over a slot of this worker's own whose container is kept: once that is gone, nobody uses the slot. */
  takeOver(slot: string): void {
    this.#takenOver.add(slot)
  }

  /** One round, after those under way. @returns how many things were removed; what fails is logged and left for the next */
  reap(): Promise<number> {
    const next = this.#round.then(() => this.#reap())
    this.#round = next.catch(() => 0)
    return next
  }

  async #reap(): Promise<number> {
    const containers = await this.#reapContainers()
    const volumes = await this.#reapVolumes()
    const networks = await this.#reapNetworks()
    const slots = await this.#reapSlots()
    const left = this.#slotsThere()
    const disks = left.flatMap(slot => readOwner(join(this.#options.dataDir, 'slots', slot))?.disk ?? [])
    await this.#try(() => reapDisks(this.#options.dataDir, isAlive, disks))
    const groups = (await this.#options.groups?.reap(slot => left.includes(slot))) ?? 0
    const total = containers + volumes + networks + slots + groups
    if (total > 0) {
      const reaped = { containers, volumes, networks, slots, groups }
      this.#options.log.info('reaped what dead workers left', reaped)
    }
    return total
  }

  async #reapContainers(): Promise<number> {
    const { engine } = this.#options
    this.#known = new Set(this.#takenOver)
    const found = await engine.containers(`${LABELS.managed}=true`)
    this.#kept.clear()
    for (const { name, labels } of found) {
      const until = keptUntil(name)
      if (until !== null) this.#kept.set(labels[LABELS.slot] ?? '', until > Date.now())
    }
    return await this.#removeOrphans(found, container => engine.remove(container.id))
  }

  async #reapVolumes(): Promise<number> {
    const { engine } = this.#options
    const found = await engine.volumes(`${LABELS.managed}=true`)
    return await this.#removeOrphans(found, volume => engine.removeVolume(volume.name))
  }

  async #reapNetworks(): Promise<number> {
    const { engine } = this.#options
    const found = await engine.networks(`${LABELS.managed}=true`)
    return await this.#removeOrphans(found, network => engine.removeNetwork(network.name))
  }

  async #removeOrphans<T extends { readonly labels: Labels }>(
    found: readonly T[],
    remove: (one: T) => Promise<void>,
  ): Promise<number> {
    let removed = 0
    for (const one of found) {
      if (await this.#isOwned(one.labels)) continue
      removed += await this.#try(() => remove(one))
    }
    return removed
  }

  async #reapSlots(): Promise<number> {
    const root = join(this.#options.dataDir, 'slots')
    const names = await readdir(root).catch(() => [])
    let removed = 0
    for (const name of names) {
      const owner = readOwner(join(root, name))
      // A slot without an owner yet is being made.
      if (owner === null || owner.host !== this.#options.owner.host) continue
      if (this.#outlasts(name) ?? (isAlive(owner.worker) || this.#mayBeTakenOver(join(root, name), owner)))
        continue
      removed += await this.#try(async () => {
        await reapMemory(join(root, name))
        if (owner.disk) await reapDisk(owner.disk)
        await rm(join(root, name), { recursive: true, force: true })
        if (this.#takenOver.delete(name)) await this.#options.groups?.drop(name)
      })
    }
    return removed
  }

  /** Whether what belongs to a slot still may outlast its task; undefined when it never was to. */
  #outlasts(slot: string): boolean | undefined {
    return this.#kept.get(slot) ?? (this.#known.has(slot) ? false : undefined)
  }

  async #isOwned(labels: Labels): Promise<boolean> {
    const worker = labels[LABELS.worker] ?? ''
    const outlasts = this.#outlasts(labels[LABELS.slot] ?? '')
    if (outlasts !== undefined) return outlasts
    if (labels[LABELS.host] === this.#options.owner.host) return isAlive(worker) || this.#isTakenOver(labels)
    if (labels[LABELS.stack] !== this.#options.owner.stack) return true
    return await this.#options.hasHeartbeat(worker)
  }

  /** Whether somebody has taken over what a dead worker of this machine left, or still may. */
  #isTakenOver(labels: Labels): boolean {
    const [data, slot] = [labels[LABELS.data], labels[LABELS.slot]]
    if (!data || !slot || !SLOT.test(slot)) return false
    const root = join(data, 'slots', slot)
    const owner = readOwner(root)
    if (owner !== null && isAlive(owner.worker)) return true
    return owner !== null && this.#mayBeTakenOver(root, owner)
  }

  /**
   * Whether somebody still may take over a slot whose owner is dead. Of this folder and queue that was decided before this
   * round, unless Redis is away; workers of others get a while.
   */
  #mayBeTakenOver(root: string, { stack }: SlotOwner): boolean {
    if (readClaim(root) === null) return false
    const { dataDir, owner } = this.#options
    if (stack === owner.stack && root.startsWith(join(dataDir, 'slots', '/'))) return true
    const since = this.#orphaned.get(root) ?? Date.now()
    this.#orphaned.set(root, since)
    return Date.now() - since < ADOPTION_MS
  }

  #slotsThere(): string[] {
    try {
      return readdirSync(join(this.#options.dataDir, 'slots'))
    } catch {
      return []
    }
  }

  async #try(remove: () => Promise<unknown>): Promise<number> {
    try {
      await remove()
      return 1
    } catch (error) {
      this.#options.log.warn('reaping failed, trying again later', { reason: messageOf(error) })
      return 0
    }
  }
}
