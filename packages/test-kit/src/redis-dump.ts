import { Redis } from 'ioredis'

const PAGE = 500

/**
 * Everything that a database holds, of every type.
 *
 * @returns one text for each key: its name and what it holds
 */
export async function dumpRedis(url: string): Promise<Map<string, string>> {
  const redis = new Redis(url)
  try {
    const dump = new Map<string, string>()
    for await (const keys of redis.scanStream({ count: PAGE }) as AsyncIterable<string[]>) {
      for (const key of keys) dump.set(key, `${key} ${flatten(await readKey(redis, key))}`)
    }
    return dump
  } finally {
    redis.disconnect()
  }
}

async function readKey(redis: Redis, key: string): Promise<unknown> {
  const type = await redis.type(key)
  switch (type) {
    case 'string':
      return await redis.get(key)
    case 'list':
      return await redis.lrange(key, 0, -1)
    case 'set':
      return await redis.smembers(key)
    case 'zset':
      return await redis.zrange(key, '0', '-1', 'WITHSCORES')
    case 'hash':
      return await redis.hgetall(key)
    case 'stream':
      return await redis.xrange(key, '-', '+')
    case 'none':
      return null
    default:
      throw new Error(`${key} is of a type that is not read: ${type}`)
  }
}

/** As it lies there, without a further layer of escapes. */
function flatten(value: unknown): string {
  if (value === null || typeof value !== 'object') return String(value)
  return Object.entries(value)
    .map(([name, inner]) => `${name} ${flatten(inner)}`)
    .join('\n')
}
