import { randomUUID } from 'node:crypto'
import { type LiveContainer, redisNames } from '@agirunner/contracts'
import { type PrivateRedis, startPrivateRedis } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { createProducer, type Producer } from './index.js'
import { announceWorker, ScriptedWorker } from './testing/scripted-worker.js'

// A server of its own, whatever REDIS_URL says: these tests take it away.
let server: PrivateRedis
let redis: Redis
let queue: string
let producer: Producer

beforeAll(async () => {
  server = await startPrivateRedis()
  redis = new Redis(server.url)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})
beforeEach(() => {
  queue = `test-${randomUUID()}`
  producer = createProducer({ redis: server.url, queue })
})
afterEach(() => producer.close())

const named = (name: string) => ({ name }) as LiveContainer
const tell = (worker: string, ...containers: LiveContainer[]) =>
  redis.set(
    redisNames(queue).containers(worker),
    JSON.stringify({ at: new Date().toISOString(), containers }),
  )

describe('watchContainers', () => {
  it('asks the workers, and gives what they all tell whenever it has changed', async () => {
    await announceWorker(redis, queue, 'w-1')
    await announceWorker(redis, queue, 'w-2')
    const subscriber = redis.duplicate()
    subscriber.on('message', () => void Promise.all([tell('w-1', named('a')), tell('w-2', named('b'))]))
    await subscriber.subscribe(redisNames(queue).lookChannel)
    const watching = producer.watchContainers()
    expect(await watching.next()).toEqual({ done: false, value: [named('a'), named('b')] })
    const next = watching.next()
    await tell('w-2')
    expect(await next).toEqual({ done: false, value: [named('a')] })
    expect(await watching.return?.()).toEqual({ done: true, value: undefined })
    subscriber.disconnect()
  })

  it('does not wait for a worker that never tells, and forgets one that died', async () => {
    await announceWorker(redis, queue, 'w-1')
    await announceWorker(redis, queue, 'w-older')
    await tell('w-1', named('a'))
    const since = Date.now()
    const watching = producer.watchContainers()
    expect((await watching.next()).value).toEqual([named('a')])
    expect(Date.now() - since).toBeLessThan(2000)
    await redis.del(redisNames(queue).worker('w-1'))
    expect((await watching.next()).value).toEqual([])
    await watching.return?.()
  })

  it('is empty at once without workers, and ends by its signal, its return and the close', async () => {
    const stop = new AbortController()
    const watching = producer.watchContainers({ signal: stop.signal })
    expect((await watching.next()).value).toEqual([])
    const waiting = watching.next()
    stop.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')

    const left = producer.watchContainers()
    await left.next()
    const never = left.next()
    await left.return?.()
    expect(await never).toEqual({ done: true, value: undefined })

    const closed = producer.watchContainers()
    await closed.next()
    const late = closed.next()
    await producer.close()
    await expect(late).rejects.toMatchObject({ code: 'producer.closed' })
  })

  it('rides out a Redis that comes back, and refuses one that is not there', async () => {
    const watching = producer.watchContainers()
    await watching.next()
    const next = watching.next()
    await server.kill()
    await server.resume()
    await announceWorker(redis, queue, 'w-1')
    await tell('w-1', named('a'))
    expect((await next).value).toEqual([named('a')])
    await watching.return?.()

    const nowhere = createProducer({ redis: 'redis://127.0.0.1:1', queue })
    await expect(nowhere.watchContainers().next()).rejects.toMatchObject({ code: 'redis.unavailable' })
    await nowhere.close()
  })
})

describe('activity and recent', () => {
  it('count each result once, and list the latest first', async () => {
    for (const taskId of ['t-1', 't-2']) {
      await producer.enqueue({ taskId, run: { script: 'true' } })
      const worker = new ScriptedWorker(redis, queue, taskId)
      await worker.begin()
      await worker.finish(taskId === 't-1' ? {} : { status: 'canceled' })
      await expect(worker.finish()).rejects.toThrow('exists')
    }
    const minutes = await producer.activity(3)
    expect(minutes).toHaveLength(3)
    const times = minutes.map(({ at }) => Date.parse(at))
    expect(times.map(at => at - (times[0] ?? 0))).toEqual([0, 60_000, 120_000])
    const filled = minutes.filter(({ queuedMs }) => queuedMs > 0)
    const count = (status: 'succeeded' | 'canceled') =>
      filled.reduce((sum, { statuses }) => sum + (statuses[status] ?? 0), 0)
    expect([count('succeeded'), count('canceled')]).toEqual([1, 1])
    expect(filled.reduce((sum, { runMs }) => sum + runMs, 0)).toBe(500)
    const ended = await producer.recent()
    expect(ended.map(({ taskId, status }) => [taskId, status])).toEqual([
      ['t-2', 'canceled'],
      ['t-1', 'succeeded'],
    ])
    expect(await producer.recent(1)).toEqual(ended.slice(0, 1))
    const [key] = await redis.keys(`*${queue}:activity:*`)
    expect(await redis.ttl(key ?? '')).toBeGreaterThan(7000)
  })

  it('have a minute for each that is asked for, and refuse more than is kept', async () => {
    expect(await producer.activity(120)).toHaveLength(120)
    expect((await producer.activity(1))[0]).toEqual({
      at: expect.stringMatching(/:00\.000Z$/),
      statuses: {},
      failures: {},
      queuedMs: 0,
      runMs: 0,
      parked: 0,
    })
    await expect(producer.activity(121)).rejects.toThrow(RangeError)
    await expect(producer.activity(0)).rejects.toThrow(RangeError)
    await expect(producer.recent(501)).rejects.toThrow(RangeError)
  })
})
