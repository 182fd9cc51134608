import { Redis } from 'ioredis'
import type { Log } from './log.js'
import { messageOf } from './log.js'

/** A connection for a worker: it waits for Redis to come back and tries again, for as long as that takes. */
export function connectRedis(url: string, log: Log): Redis {
  const redis = new Redis(url, {
    maxRetriesPerRequest: null,
    retryStrategy: times => Math.min(50 * 2 ** Math.min(times, 6), 2000),
  })
  let away = false
  redis.on('error', error => {
    if (!away) log.warn('redis: connection lost, trying again', { reason: messageOf(error) })
    away = true
  })
  redis.on('ready', () => {
    if (away) log.info('redis: connected again')
    away = false
  })
  return redis
}
