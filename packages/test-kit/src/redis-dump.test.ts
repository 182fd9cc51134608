import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { type PrivateRedis, startPrivateRedis } from './redis.js'
import { dumpRedis } from './redis-dump.js'

let server: PrivateRedis
let redis: Redis
beforeAll(async () => {
  server = await startPrivateRedis()
  redis = new Redis(server.url)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

it('holds what every type of key holds, as it lies there', async () => {
  const text = 'a "quoted"\\ \n text'
  await redis.set('string', text)
  await redis.rpush('list', 'other', text)
  await redis.sadd('set', text)
  await redis.zadd('zset', 1, text)
  await redis.hset('hash', { field: text })
  await redis.hset('hash with such a field', { [text]: '' })
  await redis.xadd('stream', '*', 'field', text)
  await redis.set(text, 'a key of that name')
  const dump = await dumpRedis(server.url)
  expect(dump.size).toBe(8)
  expect([...dump].filter(([, content]) => !content.includes(text))).toEqual([])
})
