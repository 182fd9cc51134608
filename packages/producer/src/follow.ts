import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { type Connection, PATIENCE_MS } from './connection.js'
import { replies } from './enqueue.js'
import { UnknownTaskError } from './errors.js'

/** How to read a stream of a task. */
export interface FollowOptions {
  /** The first seq that is wanted; 1, the beginning, by default. */
  readonly from?: number
  /** Whether to go on with what is still to come, until the stream's end. False by default: what is there now. */
  readonly follow?: boolean
  /** Ends the iteration: `next()` then rejects with the signal's reason. */
  readonly signal?: AbortSignal
}

/** One entry of a Redis stream as ioredis gives it: its id, and a flat list of fields and values. */
type RawEntry = [id: string, fields: string[]]

/** What an entry means: `entry` is to be handed out when there is one, and `end` says that nothing follows. */
export interface Decoded<T> {
  readonly entry: T | null
  readonly end: boolean
}

export interface StreamSource<T> {
  readonly connection: Connection
  readonly taskId: string
  readonly queue: string
  /** Keys of the stream, of the task's record and of its result. */
  readonly keys: { readonly stream: string; readonly record: string; readonly result: string }
  decode(seq: number, fields: ReadonlyMap<string, string>): Decoded<T>
}

/**
 * Entries that are read at once, of a log 8 MiB at most. Fewer after a broken connection, so that one that never lives
 * long is no dead end.
 */
const PAGE = 128
/** How long one blocking read waits, in milliseconds; after it the follower looks whether the task still exists. */
const BLOCK_MS = 5000
/** A follower whose connection says nothing for this long, in milliseconds, takes it for dead and makes another. */
const SILENCE_MS = 3 * BLOCK_MS
/** The pause after a failed read, in milliseconds. */
const RETRY_MS = 20

/**
 * Reads a task's stream from `from` on. With `follow` it waits for what comes, on a connection of its own that is
 * closed when the iteration ends, and comes back by seq after a broken one: nothing is lost and nothing comes twice.
 *
 * @throws (from `next`) UnknownTaskError, RedisUnavailableError, the signal's reason
 */
export function followStream<T>(
  source: StreamSource<T>,
  options: FollowOptions = {},
): AsyncIterableIterator<T> {
  const stop = new AbortController()
  const entries = read(source, options, stop.signal)
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    next: () => entries.next(),
    // A generator only returns where it yields; the signal wakes one that waits for Redis.
    return: async () => {
      stop.abort()
      await entries.return(undefined)
      return { done: true, value: undefined }
    },
  }
}

async function* read<T>(
  source: StreamSource<T>,
  options: FollowOptions,
  stop: AbortSignal,
): AsyncGenerator<T> {
  const { from = 1, follow = false, signal } = options
  if (!Number.isSafeInteger(from) || from < 1)
    throw new RangeError(`from is ${from}; a seq is a whole number from 1 on`)
  signal?.throwIfAborted()
  const finished = await look(source)
  const cursor = new Cursor(source, from)
  const live = follow && !finished ? new LiveReader(source.connection, source.keys) : null
  const end = () => live?.close()
  stop.addEventListener('abort', end)
  signal?.addEventListener('abort', end)
  try {
    yield* live ? liveEntries(cursor, live, signal, stop) : storedEntries(source, cursor, signal)
  } finally {
    stop.removeEventListener('abort', end)
    signal?.removeEventListener('abort', end)
    live?.close()
  }
}

/** Whether the task has its result. @throws UnknownTaskError */
async function look(source: StreamSource<unknown>): Promise<boolean> {
  const { record, result } = source.keys
  return source.connection.use(async redis => {
    const [known, finished] = await replies<number>(redis.pipeline().exists(record).exists(result))
    if (known === 0) throw new UnknownTaskError(source.taskId, source.queue)
    return finished === 1
  })
}

/** Where a reader is: it only moves forward, which is what makes reading again after a failure safe. */
class Cursor<T> {
  readonly #source: StreamSource<T>
  /** The id of the last entry that was seen. */
  id: string
  ended = false

  constructor(source: StreamSource<T>, from: number) {
    this.#source = source
    this.id = `${from - 1}-0`
  }

  *take(page: readonly RawEntry[]): Generator<T> {
    for (const [id, flat] of page) {
      this.id = id
      const fields = new Map<string, string>()
      for (let i = 0; i + 1 < flat.length; i += 2) fields.set(String(flat[i]), String(flat[i + 1]))
      const { entry, end } = this.#source.decode(Number.parseInt(id, 10), fields)
      if (end) this.ended = true
      if (entry !== null) yield entry
      if (end) return
    }
  }
}

async function* storedEntries<T>(
  source: StreamSource<T>,
  cursor: Cursor<T>,
  signal?: AbortSignal,
): AsyncGenerator<T> {
  for (;;) {
    const page = await source.connection.use(redis =>
      redis.xrange(source.keys.stream, `(${cursor.id}`, '+', 'COUNT', PAGE),
    )
    for (const entry of cursor.take(page)) {
      signal?.throwIfAborted()
      yield entry
    }
    if (cursor.ended || page.length < PAGE) return
  }
}

async function* liveEntries<T>(
  cursor: Cursor<T>,
  reader: LiveReader,
  signal: AbortSignal | undefined,
  stop: AbortSignal,
): AsyncGenerator<T> {
  while (!cursor.ended) {
    const page = await reader.next(cursor.id).catch((error: unknown) => {
      signal?.throwIfAborted()
      if (stop.aborted) return null
      throw error
    })
    if (page === null) return
    for (const entry of cursor.take(page)) {
      signal?.throwIfAborted()
      yield entry
    }
  }
}

/** Blocking reads on a connection of their own, over as many connections as it takes. */
class LiveReader {
  readonly #connection: Connection
  readonly #redis: Redis
  readonly #keys: StreamSource<unknown>['keys']
  #closed = false
  #page = PAGE

  constructor(connection: Connection, keys: StreamSource<unknown>['keys']) {
    this.#connection = connection
    this.#keys = keys
    // No command is sent again by ioredis: the cursor decides where to go on. Nor is anything asked before the first: a
    // Redis that still loads says so, and is asked again.
    this.#redis = connection.duplicate({
      enableReadyCheck: false,
      disableClientInfo: true,
      commandTimeout: undefined,
      maxRetriesPerRequest: 0,
      socketTimeout: SILENCE_MS,
    })
  }

  /** The entries after `id`, once there are any; null when there never will be. */
  async next(id: string): Promise<RawEntry[] | null> {
    for (;;) {
      await this.#connection.becomesReady(this.#redis, PATIENCE_MS)
      try {
        const page = await this.#block(id)
        this.#page = Math.min(PAGE, this.#page * 2)
        if (page !== null) return page
        if (await this.#isOver()) return await this.#now(id)
      } catch (error) {
        if (this.#closed || isRefusal(error)) throw this.#connection.translate(error)
        this.#page = Math.max(1, Math.floor(this.#page / 4))
        // Between a socket's end and its close, ioredis calls the connection ready and refuses in the same turn: without
        // a pause this loop would keep the close, and all else in the program, from ever happening.
        await sleep(RETRY_MS)
      }
    }
  }

  close(): void {
    this.#closed = true
    this.#redis.disconnect()
  }

  async #block(id: string): Promise<RawEntry[] | null> {
    const reply = await this.#redis.xread(
      'COUNT',
      this.#page,
      'BLOCK',
      BLOCK_MS,
      'STREAMS',
      this.#keys.stream,
      id,
    )
    return (reply?.[0]?.[1] as RawEntry[] | undefined) ?? null
  }

  /** A result is written together with the stream's last entry, so nothing comes after it, nor after the record is gone. */
  async #isOver(): Promise<boolean> {
    const [result, record] = await Promise.all([
      this.#redis.exists(this.#keys.result),
      this.#redis.exists(this.#keys.record),
    ])
    return result === 1 || record === 0
  }

  async #now(id: string): Promise<RawEntry[] | null> {
    const page = await this.#redis.xrange(this.#keys.stream, `(${id}`, '+', 'COUNT', this.#page)
    return page.length > 0 ? page : null
  }
}

/** Redis answered, and its answer is no: trying again would not change it. A Redis that still loads is not meant. */
function isRefusal(error: unknown): boolean {
  return (
    error instanceof Error &&
    error.name === 'ReplyError' &&
    !/^(LOADING|UNBLOCKED|MASTERDOWN)/.test(error.message)
  )
}
