import { scripts } from '@agirunner/contracts'
import { Redis, type RedisOptions } from 'ioredis'
import { ProducerClosedError, ProducerError, RedisUnavailableError } from './errors.js'

/** How long a call waits for a connection before it fails, in milliseconds: a short restart is ridden out, no more. */
const READY_MS = 1500
/** How long Redis may take to answer one command before it counts as away, in milliseconds. */
const COMMAND_MS = 3000
/** How long followers and waiters go on trying to come back to a Redis that went away, in milliseconds. */
export const PATIENCE_MS = 60_000

const NO_ANSWER = 'it does not answer'

/** The scripts of contracts as commands. */
interface ScriptCommands {
  agirunnerEnqueue(keys: number, ...keysAndArguments: string[]): Promise<('created' | 'same' | 'conflict')[]>
  agirunnerFindHashes(keys: number, ...records: string[]): Promise<string[]>
  agirunnerCancel(...keysAndArguments: string[]): Promise<string>
}
export type RuntimeRedis = Redis & ScriptCommands

/**
 * The producer's own connection: it fails fast instead of queueing, so that a caller learns at once that Redis is away,
 * and it never lets an `error` event reach the host program.
 */
export class Connection {
  readonly redis: RuntimeRedis
  /** For messages: without user name and password. */
  readonly address: string
  #why = NO_ANSWER
  #ready: Promise<void> | null = null
  #closed = false
  readonly #duplicates = new Set<Redis>()

  constructor(redis: string | RedisOptions) {
    const options = {
      replyMapping: 'legacy' as const,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 1,
      connectTimeout: READY_MS,
      commandTimeout: COMMAND_MS,
      // A connection whose other end vanished without a word must not be kept for the next call.
      socketTimeout: 2 * COMMAND_MS,
      // ioredis waits this long for a connection to close, and for one that is closed already too.
      disconnectTimeout: 250,
      retryStrategy: (attempt: number) => Math.min(50 * 2 ** Math.min(attempt, 10), 1000),
      scripts: {
        agirunnerEnqueue: { lua: scripts.ENQUEUE },
        agirunnerFindHashes: { lua: scripts.FIND_HASHES },
        agirunnerCancel: { numberOfKeys: 4, lua: scripts.CANCEL },
      },
    } satisfies RedisOptions
    const client = typeof redis === 'string' ? new Redis(redis, options) : new Redis({ ...redis, ...options })
    this.redis = this.#watch(client)
    this.address = addressOf(this.redis.options)
  }

  get closed(): boolean {
    return this.#closed
  }

  /**
   * Runs `work` on a live connection.
   *
   * @throws RedisUnavailableError when there is none within 1.5 s, or Redis fails or refuses on the way
   * @throws ProducerClosedError
   */
  async use<T>(work: (redis: RuntimeRedis) => Promise<T>): Promise<T> {
    try {
      await this.ready()
      return await work(this.redis)
    } catch (error) {
      throw this.translate(error)
    }
  }

  /** Waits until the connection can be used. @throws RedisUnavailableError, ProducerClosedError */
  async ready(): Promise<void> {
    if (this.#closed) throw new ProducerClosedError()
    if (this.redis.status === 'ready') return
    // Shared, so that a thousand calls at once wait with one listener.
    this.#ready ??= this.becomesReady(this.redis, READY_MS).finally(() => {
      this.#ready = null
    })
    await this.#ready
  }

  /** Resolves when `redis` is ready. @throws RedisUnavailableError after `patience` ms, ProducerClosedError */
  becomesReady(redis: Redis, patience: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (redis.status === 'ready') return resolve()
      if (redis.status === 'end') return reject(new ProducerClosedError())
      const done = (settle: () => void) => () => {
        clearTimeout(timer)
        redis.off('ready', onReady)
        redis.off('end', onEnd)
        settle()
      }
      const onReady = done(resolve)
      const onEnd = done(() => reject(new ProducerClosedError()))
      const onTimeout = done(() => reject(new RedisUnavailableError(this.address, this.#why)))
      const timer = setTimeout(onTimeout, patience)
      redis.once('ready', onReady)
      redis.once('end', onEnd)
    })
  }

  /** A connection of its own to the same Redis, for blocking reads and subscriptions. The caller disconnects it. */
  duplicate(options: Omit<RedisOptions, 'replyMapping'>): Redis {
    if (this.#closed) throw new ProducerClosedError()
    const redis = this.#watch(this.redis.duplicate(options))
    this.#duplicates.add(redis)
    redis.once('end', () => this.#duplicates.delete(redis))
    return redis
  }

  /** What Redis and ioredis throw, as the producer's own error; everything else as it is. */
  translate(error: unknown): unknown {
    if (error instanceof ProducerError || !isRedisError(error)) return error
    if (this.#closed) return new ProducerClosedError()
    // ioredis tells how often it tried; what a person needs is why the connection broke.
    const broken = error.name === 'MaxRetriesPerRequestError'
    return new RedisUnavailableError(
      this.address,
      broken ? `the connection broke (${this.#why})` : error.message,
      error,
    )
  }

  close(): void {
    this.#closed = true
    for (const redis of [this.redis, ...this.#duplicates]) redis.disconnect()
  }

  #watch(redis: Redis): RuntimeRedis {
    // Every connection needs a listener: an unheard `error` event would end the host program.
    redis.on('error', (error: Error) => {
      this.#why = error.message || String((error as NodeJS.ErrnoException).code ?? error.name)
    })
    redis.on('ready', () => {
      this.#why = NO_ANSWER
    })
    return redis as RuntimeRedis
  }
}

/** Whether the machinery failed rather than the program: mistakes of ours must not read as "Redis is away". */
function isRedisError(error: unknown): error is Error {
  if (typeof error !== 'object' || error === null || !('message' in error)) return false
  return !(error instanceof TypeError || error instanceof RangeError || error instanceof SyntaxError)
}

function addressOf(options: RedisOptions): string {
  if (options.path) return options.path
  const scheme = options.tls ? 'rediss' : 'redis'
  return `${scheme}://${options.host ?? '127.0.0.1'}:${options.port ?? 6379}/${options.db ?? 0}`
}
