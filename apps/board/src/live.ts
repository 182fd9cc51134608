import { setTimeout as sleep } from 'node:timers/promises'
import type { ActivityMinute, EndedTask, LiveContainer, LiveRecord, RedisNames } from '@agirunner/contracts'
import type { Producer } from '@agirunner/producer'
import type { Redis } from 'ioredis'

/** What the workers tell of what goes on. */
export interface Live {
  /** The last minutes, the oldest first; every minute is there. */
  activity(minutes: number): Promise<ActivityMinute[]>
  /** The last tasks that ended, the latest first. */
  recent(limit: number): Promise<EndedTask[]>
  /** All containers, again and again, until the signal. */
  watchContainers(options: { readonly signal: AbortSignal }): AsyncIterable<readonly LiveContainer[]>
}

/** The producer's own, once it has them. */
export function liveOf(producer: Producer, redis: Redis, names: RedisNames): Live {
  return {
    activity: async minutes => {
      const now = Math.floor(Date.now() / 60_000)
      return Array.from({ length: minutes }, (_, i) => ({
        at: new Date((now - minutes + 1 + i) * 60_000).toISOString(),
        statuses: {},
        failures: {},
        queuedMs: 0,
        runMs: 0,
        parked: 0,
      }))
    },
    recent: async limit =>
      (await redis.lrange(names.recent, 0, limit - 1)).map(json => JSON.parse(json) as EndedTask),
    watchContainers: async function* ({ signal }) {
      while (!signal.aborted) {
        await redis.publish(names.lookChannel, '')
        const ids = (await producer.workers()).map(({ id }) => names.containers(id))
        const records = ids.length > 0 ? await redis.mget(ids) : []
        yield records.flatMap(json => (json === null ? [] : (JSON.parse(json) as LiveRecord).containers))
        await sleep(1000, undefined, { signal }).catch(() => undefined)
      }
    },
  }
}
