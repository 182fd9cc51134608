import type { WorkerRecord } from '@agirunner/contracts'
import type { ImageInfo } from '../../engine/engine.js'
import type { Releasable } from '../../support/lifecycle.js'
import { type Log, messageOf } from '../../support/log.js'
import type { ParkingBudget } from '../../support/parking-budget.js'
import { fixedKeyOf, keyOf, nameOfKey, type Shape } from '../shape.js'
import type { ParkedContainer } from './parked-container.js'

/** What a container that waits takes of the machine's memory, in bytes: its shell, its init, and the engine's shim. */
const PARKED_BYTES = 8.5 * 2 ** 20

export interface ParkingLotOptions extends ParkingBudget {
  readonly park: (shape: Shape, image: ImageInfo) => Promise<ParkedContainer>
  /** Whether there is room on the disk for another task's. */
  readonly hasRoom: (diskBytes: number) => Promise<boolean>
  /** Told when all that are to wait do. */
  readonly changed: () => void
  readonly log: Log
}

/** What waits, and how often something did. */
export type ParkingStatus = NonNullable<WorkerRecord['parking']>

/** What is known of a shape from the tasks that had it. */
interface Demand {
  readonly shape: Shape
  image: ImageInfo
  /** Tasks of it that run now, and the most that ran at once since it was last looked at. */
  running: number
  peak: number
  usedAt: number
  /** No more is tried before then, after a failure; in Unix milliseconds. */
  notBefore: number
}

/** How long nothing may begin or end before more are parked, and the longest that this is waited for, in milliseconds. */
const QUIET_MS = 200
const PATIENCE_MS = 1000
/** After a failure to park one of a shape, in milliseconds. */
const PAUSE_MS = 60_000

/**
 * Containers that wait for tasks. It learns from what ran: of a shape that had so many tasks at once, so many wait, up to
 * the budget; what was not used for longest gives way. One is made at a time, and only while no task's own is.
 */
export class ParkingLot implements Releasable {
  readonly #options: ParkingLotOptions
  readonly #max: number
  readonly #parked: ParkedContainer[] = []
  readonly #demands = new Map<string, Demand>()
  readonly #removals = new Set<Promise<void>>()
  #starting = 0
  #hits = 0
  #misses = 0
  #filling: Promise<void> | null = null
  #timer: NodeJS.Timeout | undefined
  /** Since when somebody wants it filled, in Unix milliseconds; null when nobody does. */
  #askedAt: number | null = null
  readonly #closing = new AbortController()

  constructor(options: ParkingLotOptions) {
    this.#options = options
    this.#max = Math.min(options.max, Math.floor(options.memoryBytes / PARKED_BYTES))
  }

  /**
   * One that waits for a task of that shape, or of one with other processors and memory, which the caller changes; it is the
   * caller's from now on. Null when there is none.
   */
  take(shape: Shape): ParkedContainer | null {
    // The one that waits for longest, so that none grows old beside others that are used.
    const exact = this.#parked.findIndex(parked => parked.key === keyOf(shape))
    const fixed = fixedKeyOf(shape)
    const at = exact >= 0 ? exact : this.#parked.findIndex(parked => fixedKeyOf(parked.shape) === fixed)
    const [parked = null] = at === -1 ? [] : this.#parked.splice(at, 1)
    if (parked) this.#hits += 1
    else this.#misses += 1
    return parked
  }

  /** A task of that shape runs, in a container that waited; `ended` settles at its end. */
  use(shape: Shape, image: ImageInfo, ended: Promise<unknown>): void {
    const over = this.#demand(shape, image)
    ended.then(over, over)
    this.#fill()
  }

  /** As `use`, of one that `start` makes. Meanwhile none is parked: tasks come first. */
  async first<T extends { readonly exit: Promise<unknown> }>(
    shape: Shape,
    image: ImageInfo,
    start: () => Promise<T>,
  ): Promise<T> {
    const over = this.#demand(shape, image)
    this.#starting += 1
    try {
      const running = await start()
      running.exit.then(over, over)
      return running
    } catch (error) {
      over()
      throw error
    } finally {
      this.#starting -= 1
      this.#fill()
    }
  }

  /** @returns to be called when the task has ended */
  #demand(shape: Shape, image: ImageInfo): () => void {
    const key = keyOf(shape)
    const known = this.#demands.get(key)
    const demand = known ?? { shape, image, running: 0, peak: 0, usedAt: 0, notBefore: 0 }
    demand.image = image
    demand.running += 1
    demand.peak = Math.max(demand.peak, demand.running)
    demand.usedAt = Date.now()
    this.#demands.set(key, demand)
    return () => {
      demand.running -= 1
      demand.usedAt = Date.now()
      this.#fill()
    }
  }

  /** Gives up what has waited for too long, and what no shape in use needs any more. To be called now and then. */
  async prune(): Promise<void> {
    const oldest = Date.now() - this.#options.maxAgeMs
    for (const parked of this.#parked.filter(one => one.parkedAt < oldest)) this.#drop(parked)
    for (const [key, demand] of this.#demands) {
      demand.peak = demand.running
      if (demand.running === 0 && demand.usedAt < oldest) this.#demands.delete(key)
    }
    await Promise.all(this.#removals)
    this.#fill()
  }

  /** Gives up everything that waits, because a task needs the room. */
  async clear(): Promise<void> {
    while (this.#parked[0]) this.#drop(this.#parked[0])
    await Promise.all(this.#removals)
  }

  status(): ParkingStatus {
    const parked = this.#parked.map(({ id, shape, parkedAt }) => ({
      id,
      shape: nameOfKey(fixedKeyOf(shape)),
      image: shape.reference,
      profile: shape.profile,
      network: shape.network,
      parkedAt: new Date(parkedAt).toISOString(),
    }))
    return {
      hits: this.#hits,
      misses: this.#misses,
      filling: this.#filling !== null || this.#askedAt !== null,
      parked,
    }
  }

  async release(): Promise<void> {
    this.#closing.abort()
    clearTimeout(this.#timer)
    await this.#filling
    await this.clear()
  }

  /** Soon: a task that has just begun, or is being reported, has the processors for itself. */
  #fill(): void {
    if (this.#closing.signal.aborted || this.#max === 0) return
    const now = Date.now()
    this.#askedAt ??= now
    clearTimeout(this.#timer)
    const leftMs = Math.min(QUIET_MS, Math.max(0, this.#askedAt + PATIENCE_MS - now))
    this.#timer = setTimeout(() => this.#fillNow(), leftMs)
  }

  #fillNow(): void {
    // Whoever comes while it is filled is seen by it, or by the next one.
    if (this.#filling) return this.#fill()
    this.#askedAt = null
    this.#filling = this.#park()
      .catch(error => {
        this.#options.log.warn('parking ended', { reason: messageOf(error) })
      })
      .finally(() => {
        this.#filling = null
        this.#options.changed()
      })
  }

  async #park(): Promise<void> {
    for (let next = this.#next(); next !== null; next = this.#next()) {
      if (!(await this.#options.hasRoom(next.shape.resources.disk))) return
      this.#makeRoom()
      try {
        this.#parked.push(await this.#options.park(next.shape, next.image))
      } catch (error) {
        next.notBefore = Date.now() + PAUSE_MS
        const { reference } = next.shape
        this.#options.log.warn('no container could be parked', {
          image: reference,
          reason: messageOf(error),
        })
      }
    }
  }

  /** The shape that needs another one most; null when none does, or a task comes first. */
  #next(): Demand | null {
    if (this.#closing.signal.aborted || this.#starting > 0) return null
    const now = Date.now()
    const wanting = [...this.#demands]
      .filter(([, demand]) => demand.notBefore <= now)
      .filter(([key, demand]) => this.#countOf(key) < Math.min(this.#max, Math.max(1, demand.peak)))
      .map(([, demand]) => demand)
      .toSorted((a, b) => b.usedAt - a.usedAt)
    const [next = null] = wanting
    if (next === null || this.#parked.length < this.#max) return next
    const leastUsed = this.#leastUsed()
    return leastUsed !== null && this.#usedAt(leastUsed) < next.usedAt && leastUsed.key !== keyOf(next.shape)
      ? next
      : null
  }

  #makeRoom(): void {
    const victim = this.#parked.length < this.#max ? null : this.#leastUsed()
    if (victim) this.#drop(victim)
  }

  #leastUsed(): ParkedContainer | null {
    return this.#parked.toSorted((a, b) => this.#usedAt(a) - this.#usedAt(b))[0] ?? null
  }

  #usedAt({ key }: ParkedContainer): number {
    return this.#demands.get(key)?.usedAt ?? 0
  }

  #countOf(key: string): number {
    return this.#parked.filter(parked => parked.key === key).length
  }

  #drop(parked: ParkedContainer): void {
    this.#parked.splice(this.#parked.indexOf(parked), 1)
    const removal = parked.release().catch(error => {
      this.#options.log.warn('a parked container is left to the reaper', { reason: messageOf(error) })
    })
    this.#removals.add(removal)
    void removal.then(() => this.#removals.delete(removal))
  }
}
