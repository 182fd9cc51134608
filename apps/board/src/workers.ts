import type { RedisNames, WorkerRecord } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import type { WorkerView } from './api.js'
import { fromRedis } from './errors.js'

/** How often the board looks whether the workers live, asked or not: more than once within the life of a record. */
const LOOK_MS = 4000
/** How long a worker that was lost goes on being shown, in milliseconds. */
const SHOWN_MS = 5 * 60_000

interface Seen {
  readonly record: WorkerRecord
  /** When its record goes away unless it is renewed, in milliseconds of this process's monotonic clock. */
  readonly expires: number
  /** When it was found to be lost; null while it lives. */
  lostAt: number | null
}

/**
 * Tells workers that said goodbye from those that were lost. A worker that ends takes its record with it; of one that died
 * the record stays until it expires, and soon after the other workers forget that one too: only who looked knows.
 */
export class WorkerWatch {
  readonly #redis: Redis
  readonly #names: RedisNames
  readonly #seen = new Map<string, Seen>()
  /** Those that were lost before this board saw them, while no other worker has forgotten them. */
  #unseen: readonly string[] = []
  #timer: NodeJS.Timeout | null = null

  constructor(redis: Redis, names: RedisNames) {
    this.#redis = redis
    this.#names = names
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.look().catch(() => undefined)
    }, LOOK_MS)
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer)
  }

  /** The records of the workers that are alive. @throws Refusal 503 */
  async look(): Promise<WorkerRecord[]> {
    const ids = await fromRedis(this.#redis.smembers(this.#names.workers))
    const found = await fromRedis(Promise.all(ids.map(async id => await this.#read(id))))
    const alive = found.filter(seen => seen !== null)
    this.#settle(new Map(alive.map(seen => [seen.record.id, seen])), new Set(ids))
    return alive.map(({ record }) => record)
  }

  /** As they were at the last look: those that are alive, and those that were lost lately. */
  views(): WorkerView[] {
    return [...this.#seen.values()]
      .map(({ record, lostAt }) => viewOf(record, lostAt !== null))
      .concat(this.#unseen.map(id => viewOf({ ...NOTHING_KNOWN, id }, true)))
      .sort((one, other) => one.id.localeCompare(other.id))
  }

  async #read(id: string): Promise<Seen | null> {
    const key = this.#names.worker(id)
    // One after the other on one connection: a record that is there still has its time to live, or has just lost it.
    const [json, left] = await Promise.all([this.#redis.get(key), this.#redis.pttl(key)])
    if (json === null) return null
    return { record: JSON.parse(json) as WorkerRecord, expires: performance.now() + left, lostAt: null }
  }

  #settle(alive: ReadonlyMap<string, Seen>, ids: ReadonlySet<string>): void {
    const now = performance.now()
    this.#unseen = [...ids].filter(id => !alive.has(id) && !this.#seen.has(id))
    for (const [id, seen] of this.#seen) {
      if (alive.has(id)) continue
      // A record that went before its time was taken away by its worker, which ended.
      const isGone = seen.lostAt === null ? now < seen.expires : now - seen.lostAt > SHOWN_MS && !ids.has(id)
      if (isGone) this.#seen.delete(id)
      else seen.lostAt ??= now
    }
    for (const [id, seen] of alive) this.#seen.set(id, seen)
  }
}

const NOTHING_KNOWN: Omit<WorkerRecord, 'id'> = {
  host: '',
  pid: 0,
  startedAt: '',
  state: 'idle',
  concurrency: 0,
  running: [],
  strategy: '',
  engine: '',
}

function viewOf(record: WorkerRecord, isLost: boolean): WorkerView {
  const { id, host, startedAt, concurrency, running, strategy, engine, capabilities = [] } = record
  return {
    id,
    host,
    startedAt,
    concurrency,
    running,
    strategy,
    engine,
    state: isLost ? 'lost' : record.state,
    at: record.at ?? null,
    weak: capabilities.filter(({ state }) => state !== 'enforced').map(({ name }) => name),
  }
}
