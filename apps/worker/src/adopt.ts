import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { RedisNames } from '@agirunner/contracts'
import { LEASE_MS } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import { type AdoptedAttempt, type ConsumeOptions, resumeAttempt } from './consume.js'
import type { ContainerEngine, ContainerSummary } from './engine/engine.js'
import { LABELS, type Owner } from './engine/labels.js'
import { type Claim, dropClaim, readClaim } from './execution/claim.js'
import { accept, parseJob } from './intake/accept.js'
import { holdToLimits } from './intake/limits.js'
import { withFileLock } from './support/file-lock.js'
import { isAlive } from './support/identity.js'
import { messageOf } from './support/log.js'
import { knownSecrets, readOwner, type SlotOwner, writeOwner } from './workspace/index.js'

export interface AdoptOptions {
  readonly consume: () => ConsumeOptions
  readonly engine: ContainerEngine
  readonly owner: Owner
  readonly dataDir: string
  readonly redis: Redis
  readonly names: RedisNames
  /** The context that came with a task's job; null for none. */
  readonly traceparent: (taskId: string) => Promise<string | null>
  /** Told when one that was taken over has ended: what else its worker left may go. */
  readonly ended: () => Promise<unknown>
}

/** States of a container whose task can be gone on with; one that was never started has no task in it. */
const RAN: readonly string[] = ['running', 'paused', 'exited', 'dead']
const LOCK_MS = 10_000

/**
 * Goes on with what dead workers of this machine and data folder left running. An attempt is taken over when its fence
 * is still the task's current one and its container is there; then it has this worker's lease, its own deadline, and
 * its log from where Redis has got to. Everything else is left to the reaper: the claim is dropped.
 */
export class Adopter {
  readonly #options: AdoptOptions
  readonly #running = new Map<string, Promise<void>>()

  constructor(options: AdoptOptions) {
    this.#options = options
  }

  /** What this worker has taken over of a task and not ended yet; settles when it has, and never rejects. */
  running(taskId: string): Promise<void> | null {
    return this.#running.get(taskId) ?? null
  }

  /** Tasks that were taken over. */
  get taskIds(): string[] {
    return [...this.#running.keys()]
  }

  /** One look at all slots. What can't be told now, because Redis or the engine is away, is looked at again. */
  async round(): Promise<void> {
    const slots = join(this.#options.dataDir, 'slots')
    for (const name of await readdir(slots).catch(() => [])) {
      const root = join(slots, name)
      if (this.#orphan(root) === null || readClaim(root) === null) continue
      await this.#look(root, name).catch(error =>
        this.#options.consume().log.warn('a task of a dead worker is looked at again later', {
          slot: name,
          reason: messageOf(error),
        }),
      )
    }
  }

  /** Resolves when nothing that was taken over runs any more. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values())
  }

  #orphan(root: string): SlotOwner | null {
    const owner = readOwner(root)
    const { host, stack } = this.#options.owner
    // Another queue's tasks are for its own workers.
    return owner?.host === host && owner.stack === stack && !isAlive(owner.worker) ? owner : null
  }

  /** Of several workers that see it orphaned, one has the lock, and the others see its new owner after that. */
  async #look(root: string, slot: string): Promise<void> {
    const { dataDir, owner } = this.#options
    const lock = join(dataDir, 'locks', `adopt-${slot}`)
    await withFileLock(lock, owner, AbortSignal.timeout(LOCK_MS), async () => {
      const [orphan, claim] = [this.#orphan(root), readClaim(root)]
      if (orphan === null || claim === null) return
      const adopted = await this.#adoptable(claim, slot)
      if (typeof adopted === 'string') {
        this.#options.consume().log.info('a task of a dead worker is not gone on with', {
          taskId: claim.taskId,
          why: adopted,
        })
        return await dropClaim(root)
      }
      writeOwner(root, owner, orphan.disk ?? null)
      this.#resume(adopted)
    })
  }

  /** @returns why it can't be gone on with @throws when that can't be told now */
  async #adoptable(claim: Claim, slot: string): Promise<AdoptedAttempt | string> {
    const { records, secrets, limits } = this.#options.consume()
    const { taskId, fence, attempt, startedAt } = claim
    const container = await this.#containerOf(slot, claim.container.id)
    if (container === undefined) return 'its container is gone or was never started'
    if ((await records.result(taskId)) !== null) return 'it has its result'
    const sent = await records.sent(taskId)
    if (sent === null) return 'the queue does not know it any more'
    const begun = { fence, attempt, startedAt, createdAt: sent.createdAt }
    const traceparent = await this.#options.traceparent(taskId)
    const data = { task: sent.task, createdAt: sent.createdAt, traceparent }
    let accepted: AdoptedAttempt['accepted']
    try {
      const task = holdToLimits(parseJob(data), sent.task, limits)
      accepted = await accept(task, begun, secrets, knownSecrets(claim.plan.slot))
    } catch (error) {
      return `it can't be accepted again: ${messageOf(error)}`
    }
    // Last: from here on the lease is held, and no other attempt begins.
    if (!(await records.renew(taskId, fence))) return 'a later attempt has taken over'
    return { data, accepted, claim, running: container.state !== 'exited' && container.state !== 'dead' }
  }

  async #containerOf(slot: string, id: string): Promise<ContainerSummary | undefined> {
    const found = await this.#options.engine.containers(`${LABELS.slot}=${slot}`)
    return found.find(container => container.id === id && RAN.includes(container.state))
  }

  #resume(adopted: AdoptedAttempt): void {
    const options = this.#options.consume()
    const { taskId, worker, attempt } = adopted.claim
    options.log.info('going on with a task of a dead worker', { taskId, attempt, worker })
    const beating = setInterval(() => void this.#speakFor(worker), LEASE_MS / 3)
    void this.#speakFor(worker)
    const running = resumeAttempt(adopted, options)
      .catch(error => options.log.error('an attempt failed', { taskId, reason: messageOf(error) }))
      .then(() => this.#options.ended())
      .catch(error => options.log.warn('reaping failed', { reason: messageOf(error) }))
      .then(() => {
        clearInterval(beating)
        this.#running.delete(taskId)
      })
    this.#running.set(taskId, running)
  }

  /** Reapers on other machines go by the heartbeat of the worker that is on the container's label. */
  async #speakFor(worker: string): Promise<void> {
    const { redis, names, owner } = this.#options
    await redis.set(names.adopted(worker), owner.worker, 'PX', LEASE_MS).catch(() => undefined)
  }
}
