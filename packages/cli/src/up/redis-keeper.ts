import { ensureRedis } from '@agirunner/setup'
import { Redis } from 'ioredis'
import type { Env } from '../settings.js'

export interface RedisKeeperOptions {
  readonly url: string
  readonly dataDir: string
  readonly env: Env
  readonly log: (line: string) => void
  readonly say: (text: string) => void
}

/** How long Redis may be away before it is looked after, in milliseconds: a lost connection alone is no reason. */
const AWAY_MS = 1000

/**
 * Starts the private Redis again when it dies: on the same data, at the same address, so that nothing is lost and
 * everybody finds it again.
 */
export class RedisKeeper {
  readonly #options: RedisKeeperOptions
  readonly #redis: Redis
  readonly #stops: (() => Promise<void>)[] = []
  #timer: NodeJS.Timeout | null = null
  #work: Promise<void> = Promise.resolve()
  #closed = false

  constructor(options: RedisKeeperOptions) {
    this.#options = options
    this.#redis = new Redis(options.url, {
      maxRetriesPerRequest: null,
      retryStrategy: () => 250,
      connectTimeout: AWAY_MS,
    })
    this.#redis.on('error', () => undefined)
    this.#redis.on('ready', () => this.#clear())
    this.#redis.on('close', () => {
      if (!this.#closed) this.#timer ??= setTimeout(() => this.#lookAfter(), AWAY_MS)
    })
  }

  /** Stops looking, and what it started. */
  async close(): Promise<void> {
    this.#closed = true
    this.#clear()
    this.#redis.disconnect()
    await this.#work
    for (const stop of this.#stops.reverse()) await stop()
  }

  #clear(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
  }

  #lookAfter(): void {
    this.#timer = null
    const { say } = this.#options
    say('Redis is gone; looking after it')
    this.#work = this.#start().catch((error: unknown) => {
      say(`Redis could not be started again; ${(error as Error).message}`)
      if (!this.#closed) this.#timer ??= setTimeout(() => this.#lookAfter(), 10 * AWAY_MS)
    })
  }

  async #start(): Promise<void> {
    const { url, dataDir, env, log, say } = this.#options
    const redis = await ensureRedis({ dataDir, env, log })
    this.#stops.push(redis.stop)
    if (redis.url !== url) {
      say('Redis runs at another address now, as its port was taken; stop and start `agirunner up` to use it')
    }
  }
}
