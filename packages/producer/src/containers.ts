import { setTimeout as sleep } from 'node:timers/promises'
import type { LiveContainer, LiveRecord, RedisNames } from '@agirunner/contracts'
import { type Connection, PATIENCE_MS } from './connection.js'
import { RedisUnavailableError } from './errors.js'

/** How often the workers are asked to go on telling, in milliseconds. */
const LOOK_MS = 3000
/** How often what they tell is read, in milliseconds; more often until each has told something. */
const READ_MS = 500
const FIRST_READ_MS = 50
/** How long workers may take for that: one of an older version never tells. */
const FIRST_MS = 1000

export interface WatchOptions {
  /** Ends the iteration: `next()` then rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

interface Told {
  readonly containers: readonly LiveContainer[]
  /** Whether every worker that lives has told of its own. */
  readonly isWhole: boolean
}

/**
 * The containers of all living workers, whenever they have changed.
 *
 * @throws (from `next`) RedisUnavailableError when Redis is away at first or for a minute, ProducerClosedError, the
 *   signal's reason
 */
export function watchContainers(
  connection: Connection,
  names: RedisNames,
  { signal }: WatchOptions = {},
): AsyncIterableIterator<LiveContainer[]> {
  const stop = new AbortController()
  const states = watch(connection, names, signal ? AbortSignal.any([signal, stop.signal]) : stop.signal)
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    next: () =>
      states.next().catch((error: unknown) => {
        signal?.throwIfAborted()
        if (stop.signal.aborted) return { done: true, value: undefined }
        throw error
      }),
    // A generator only returns where it yields; the signal wakes one that waits.
    return: async () => {
      stop.abort()
      await states.return(undefined).catch(() => undefined)
      return { done: true, value: undefined }
    },
  }
}

async function* watch(
  connection: Connection,
  names: RedisNames,
  signal: AbortSignal,
): AsyncGenerator<LiveContainer[]> {
  const reader = new Reader(connection, names)
  const since = Date.now()
  let shown: string | null = null
  for (;;) {
    signal.throwIfAborted()
    const told = await reader.read()
    signal.throwIfAborted()
    const text = told && JSON.stringify(told.containers)
    if (told && text !== shown && (shown !== null || told.isWhole || Date.now() - since >= FIRST_MS)) {
      shown = text
      yield [...told.containers]
    }
    await pause(shown === null ? FIRST_READ_MS : READ_MS, signal)
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted())
}

/** Asks now and then, and reads; a Redis that was there before may be away for a while. */
class Reader {
  readonly #connection: Connection
  readonly #names: RedisNames
  #askedAt = 0
  #readAt: number | null = null

  constructor(connection: Connection, names: RedisNames) {
    this.#connection = connection
    this.#names = names
  }

  /** Null while Redis is away. */
  async read(): Promise<Told | null> {
    try {
      if (Date.now() - this.#askedAt >= LOOK_MS) {
        await this.#connection.use(redis => redis.publish(this.#names.lookChannel, ''))
        this.#askedAt = Date.now()
      }
      const told = await this.#told()
      this.#readAt = Date.now()
      return told
    } catch (error) {
      const isAway = error instanceof RedisUnavailableError
      if (!isAway || this.#readAt === null || Date.now() - this.#readAt > PATIENCE_MS) throw error
      return null
    }
  }

  async #told(): Promise<Told> {
    const { workers, worker, containers } = this.#names
    return await this.#connection.use(async redis => {
      const ids = (await redis.smembers(workers)).toSorted()
      if (ids.length === 0) return { containers: [], isWhole: true }
      const values = await redis.mget(...ids.map(worker), ...ids.map(containers))
      const living = ids.map((_, at) => at).filter(at => values[at] !== null)
      const records = living.map(at => values[ids.length + at] ?? null)
      return {
        containers: records.flatMap(json =>
          json === null ? [] : (JSON.parse(json) as LiveRecord).containers,
        ),
        isWhole: !records.includes(null),
      }
    })
  }
}
