import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { type PrivateRedis, removeQueue, startPrivateRedis, uniqueQueue } from './redis.js'

let server: PrivateRedis
let client: Redis
beforeEach(async () => {
  server = await startPrivateRedis()
  client = new Redis(server.url)
  client.on('error', () => undefined)
})
afterEach(async () => {
  client.disconnect()
  await server.stop()
})

describe('startPrivateRedis', () => {
  it('keeps what it holds over a crash', async () => {
    await client.set('a', '1')
    await server.kill()
    await server.resume()
    expect(await client.get('a')).toBe('1')
  })
})

describe('removeQueue', () => {
  it("takes a queue's keys and no other's", async () => {
    const [mine, other] = [uniqueQueue(), uniqueQueue()]
    await client.mset(
      `{agirunner}:${mine}:meta`,
      '1',
      `{agirunner}:rt:${mine}:fence`,
      '1',
      `{agirunner}:${other}:meta`,
      '1',
    )
    await removeQueue(server.url, mine)
    expect(await client.keys('*')).toEqual([`{agirunner}:${other}:meta`])
  })
})
