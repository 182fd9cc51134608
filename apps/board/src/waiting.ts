import { DEFAULT_TENANT, type RedisNames } from '@agirunner/contracts'
import type { Queue } from 'bullmq'
import type { Redis } from 'ioredis'
import { fromRedis } from './errors.js'

/** Of a task that waits. */
export interface WaitingTask {
  readonly taskId: string
  readonly tenantId: string
  /** When it was enqueued, RFC 3339. */
  readonly createdAt: string | null
}

/** Records that are read at once: each holds a task of up to 1 MiB. */
const PAGE = 50

/**
 * Who waits. What a record says of it is read once for as long as the task is among those that are asked for: nothing of
 * that ever changes, and the record holds the whole task.
 */
export class Waiting {
  readonly #redis: Redis
  readonly #names: RedisNames
  readonly #queue: Queue
  #known = new Map<string, WaitingTask>()

  constructor(redis: Redis, names: RedisNames, queue: Queue) {
    this.#redis = redis
    this.#names = names
    this.#queue = queue
  }

  /** The first `count` of those that may begin, the next one first. @throws Refusal 503 */
  async next(count: number): Promise<WaitingTask[]> {
    return await this.#tasks(['waiting', 'prioritized'], count)
  }

  /** Like `next`, and then those that must wait for their time. @throws Refusal 503 */
  async all(count: number): Promise<WaitingTask[]> {
    return await this.#tasks(['waiting', 'prioritized', 'delayed'], count)
  }

  async #tasks(types: ('waiting' | 'prioritized' | 'delayed')[], count: number): Promise<WaitingTask[]> {
    // The range is of each type on its own.
    const ids = await fromRedis(this.#queue.getRanges(types, 0, count - 1, true))
    const wanted = [...new Set(ids)].slice(0, count)
    const known = new Map<string, WaitingTask>()
    for (let at = 0; at < wanted.length; at += PAGE) {
      const page = await Promise.all(
        wanted.slice(at, at + PAGE).map(async id => this.#known.get(id) ?? (await this.#read(id))),
      )
      for (const task of page) if (task) known.set(task.taskId, task)
    }
    if (known.size >= this.#known.size || wanted.length < count) this.#known = known
    return [...known.values()]
  }

  async #read(taskId: string): Promise<WaitingTask | null> {
    const [task, createdAt] = await fromRedis(
      this.#redis.hmget(this.#names.record(taskId), 'task', 'createdAt'),
    )
    if (!task) return null
    const { tenantId = DEFAULT_TENANT } = JSON.parse(task) as { tenantId?: string }
    return { taskId, tenantId, createdAt: createdAt ?? null }
  }
}
