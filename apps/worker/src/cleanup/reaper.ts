import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerEngine } from '../engine/engine.js'
import { LABELS, type Owner } from '../engine/labels.js'
import { isAlive } from '../support/identity.js'
import { type Log, messageOf } from '../support/log.js'

export interface ReaperOptions {
  readonly engine: ContainerEngine
  readonly owner: Owner
  /** Removes control groups of dead workers, whose containers are gone. @returns how many */
  readonly reapGroups?: () => Promise<number>
  readonly dataDir: string
  readonly log: Log
  /** Whether a worker of our stack still renews its heartbeat. */
  readonly hasHeartbeat: (workerId: string) => Promise<boolean>
}

type Labels = Readonly<Record<string, string>>

/**
 * Removes what dead workers left: containers in any state, volumes, slots. It looks at labels and owner files alone,
 * and touches only what it is sure of: on its own host the owner's process must be gone, elsewhere the owner must
 * belong to the same stack and have lost its heartbeat.
 */
export class Reaper {
  readonly #options: ReaperOptions

  constructor(options: ReaperOptions) {
    this.#options = options
  }

  /** One round. @returns how many things were removed; what fails is logged and left for the next round */
  async reap(): Promise<number> {
    const containers = await this.#reapContainers()
    const volumes = await this.#reapVolumes()
    const slots = await this.#reapSlots()
    const groups = (await this.#options.reapGroups?.()) ?? 0
    const total = containers + volumes + slots + groups
    if (total > 0)
      this.#options.log.info('reaped what dead workers left', { containers, volumes, slots, groups })
    return total
  }

  async #reapContainers(): Promise<number> {
    const { engine } = this.#options
    const found = await engine.containers(`${LABELS.managed}=true`)
    return await this.#removeOrphans(found, container => engine.remove(container.id))
  }

  async #reapVolumes(): Promise<number> {
    const { engine } = this.#options
    const found = await engine.volumes(`${LABELS.managed}=true`)
    return await this.#removeOrphans(found, volume => engine.removeVolume(volume.name))
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
      const owner = await readOwner(join(root, name))
      // A slot without an owner yet is being made.
      if (owner === null || owner.host !== this.#options.owner.host || isAlive(owner.worker)) continue
      removed += await this.#try(() => rm(join(root, name), { recursive: true, force: true }))
    }
    return removed
  }

  async #isOwned(labels: Labels): Promise<boolean> {
    const worker = labels[LABELS.worker] ?? ''
    if (labels[LABELS.host] === this.#options.owner.host) return isAlive(worker)
    if (labels[LABELS.stack] !== this.#options.owner.stack) return true
    return await this.#options.hasHeartbeat(worker)
  }

  async #try(remove: () => Promise<void>): Promise<number> {
    try {
      await remove()
      return 1
    } catch (error) {
      this.#options.log.warn('reaping failed, trying again later', { reason: messageOf(error) })
      return 0
    }
  }
}

async function readOwner(slot: string): Promise<{ worker: string; host: string } | null> {
  try {
    return JSON.parse(await readFile(join(slot, 'owner.json'), 'utf8')) as { worker: string; host: string }
  } catch {
    return null
  }
}
