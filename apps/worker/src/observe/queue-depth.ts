import { REDIS_PREFIX } from '@agirunner/contracts'
import { type JobType, Queue } from 'bullmq'
import type { Redis } from 'ioredis'

/** What is waiting or under way; what has ended says nothing of a queue's depth. */
const STATES: JobType[] = ['waiting', 'prioritized', 'delayed', 'active']
/** How long Redis may take to say, in milliseconds. */
const ANSWER_MS = 1000

/** Counts a queue's jobs by state, over the worker's own connection. It rejects when Redis does not answer in time. */
export function queueDepth(redis: Redis, name: string): () => Promise<Record<string, number>> {
  let queue: Queue | null = null
  return async () => {
    if (redis.status !== 'ready') throw new Error('there is no connection to Redis')
    if (queue === null) {
      queue = new Queue(name, { connection: redis, prefix: REDIS_PREFIX })
      queue.on('error', () => undefined)
    }
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS} ms`)), ANSWER_MS)
    })
    return await Promise.race([queue.getJobCounts(...STATES), late]).finally(() => clearTimeout(timer))
  }
}
