import { LEASE_MS, type RedisNames, type WorkerRecord } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import type { Releasable } from '../support/lifecycle.js'
import { type Log, messageOf } from '../support/log.js'

const BEAT_MS = 5_000

/** Tells Redis that this worker lives and what it does, until released; then it is gone at once. */
export async function startHeartbeat(options: {
  redis: Redis
  names: RedisNames
  log: Log
  describe: () => WorkerRecord
}): Promise<Releasable & { now(): Promise<void> }> {
  const { redis, names } = options
  const { id } = options.describe()
  const now = async () => {
    await redis
      .multi()
      .set(names.worker(id), JSON.stringify(options.describe()), 'PX', LEASE_MS)
      .sadd(names.workers, id)
      .exec()
    await forgetGone(redis, names)
  }
  await now()
  const timer = setInterval(() => {
    now().catch(error => options.log.warn('heartbeat failed', { reason: messageOf(error) }))
  }, BEAT_MS)
  return {
    now,
    release: async () => {
      clearInterval(timer)
      await redis.multi().del(names.worker(id)).srem(names.workers, id).exec()
    },
  }
}

async function forgetGone(redis: Redis, names: RedisNames): Promise<void> {
  const ids = await redis.smembers(names.workers)
  if (ids.length === 0) return
  const records = await redis.mget(ids.map(id => names.worker(id)))
  const gone = ids.filter((_id, index) => records[index] === null)
  if (gone.length > 0) await redis.srem(names.workers, ...gone)
}
