import { LIVE_EVERY_MS, LIVE_MS, type LiveContainer, type LiveRecord } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import { monotonicMs, type Releasable } from '../support/lifecycle.js'
import { type Log, messageOf } from '../support/log.js'

/** How often it is told at most, in milliseconds, however much changes. */
const GAP_MS = 200
/** How long what was told last is believed, in milliseconds. */
const FRESH_MS = 5 * LIVE_EVERY_MS

export interface LiveContainersOptions {
  readonly redis: Redis
  /** Where the LiveRecord is written. */
  readonly key: string
  readonly look: () => Promise<LiveContainer[]>
  readonly log: Log
}

/** Tells Redis of this worker's containers while somebody looks. Without anybody it reads nothing and writes nothing. */
export class LiveContainers implements Releasable {
  readonly #options: LiveContainersOptions
  /** Until when somebody looks, and when it was told last; in milliseconds of the monotonic clock. */
  #until = 0
  #toldAt = 0
  #next: { readonly timer: NodeJS.Timeout; readonly at: number } | null = null
  #telling: Promise<void> | null = null
  #released = false

  constructor(options: LiveContainersOptions) {
    this.#options = options
  }

  /** Somebody looks. */
  looked(): void {
    this.#until = monotonicMs() + LIVE_MS
    this.#soon()
  }

  /** A container has come, gone or changed. */
  changed(): void {
    if (this.#until > 0) this.#soon()
  }

  async release(): Promise<void> {
    this.#released = true
    if (this.#next) clearTimeout(this.#next.timer)
    await this.#telling
    const { redis, key } = this.#options
    if (this.#toldAt > 0 && redis.status === 'ready') await redis.del(key)
  }

  #soon(): void {
    this.#tellAt(Math.max(monotonicMs(), this.#toldAt + GAP_MS))
  }

  #tellAt(at: number): void {
    if (this.#released || (this.#next && this.#next.at <= at)) return
    if (this.#next) clearTimeout(this.#next.timer)
    const timer = setTimeout(() => {
      this.#next = null
      // One at a time: what is told next is told after it.
      const before = this.#telling ?? Promise.resolve()
      const telling = before.then(() => this.#tell())
      this.#telling = telling
      void telling.then(() => {
        if (this.#telling === telling) this.#telling = null
      })
    }, at - monotonicMs())
    this.#next = { timer, at }
  }

  async #tell(): Promise<void> {
    const { redis, key, look, log } = this.#options
    if (monotonicMs() > this.#until) {
      this.#until = 0
      return
    }
    try {
      const containers = await look()
      const record: LiveRecord = { at: new Date().toISOString(), containers }
      // One that is away would keep it until it is old.
      if (redis.status === 'ready') await redis.set(key, JSON.stringify(record), 'PX', FRESH_MS)
    } catch (error) {
      log.debug('the containers could not be told', { reason: messageOf(error) })
    }
    this.#toldAt = monotonicMs()
    this.#tellAt(this.#toldAt + LIVE_EVERY_MS)
  }
}
