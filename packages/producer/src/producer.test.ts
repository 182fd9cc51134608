import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { REDIS_PREFIX, redisNames, SpecError } from '@agirunner/contracts'
import { eventually, type PrivateRedis, startPrivateRedis } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis, type RedisOptions } from 'ioredis'
import { createProducer, type Producer } from './index.js'
import { announceWorker, ScriptedWorker } from './testing/scripted-worker.js'

const task = (taskId: string, script = 'true') => ({ taskId, run: { script } })

// A server of its own, whatever REDIS_URL says: these tests count, break and kill its connections.
let server: PrivateRedis
let url: string
let redis: Redis
let queue: string
let producer: Producer

beforeAll(async () => {
  server = await startPrivateRedis()
  url = server.url
  redis = new Redis(url)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})
beforeEach(() => {
  queue = `test-${randomUUID()}`
  producer = createProducer({ redis: url, queue })
})
afterEach(async () => {
  await producer.close()
  const keys = await redis.keys(`*${queue}*`)
  if (keys.length > 0) await redis.del(keys)
})

const jobKey = (taskId: string) => `${REDIS_PREFIX}:${queue}:${taskId}`

async function collect<T>(entries: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const entry of entries) all.push(entry)
  return all
}

async function running(taskId: string): Promise<ScriptedWorker> {
  await producer.enqueue(task(taskId))
  const worker = new ScriptedWorker(redis, queue, taskId)
  await worker.begin()
  return worker
}

describe('enqueue', () => {
  it('writes the record, the first event and the job', async () => {
    expect(await producer.enqueue(task('t-1'))).toEqual({ taskId: 't-1', status: 'created' })
    const job = await redis.hgetall(jobKey('t-1'))
    expect(JSON.parse(job.data ?? '')).toMatchObject({ task: task('t-1'), traceparent: null })
    expect(JSON.parse(job.opts ?? '')).toMatchObject({ attempts: 1, priority: 20 })
    const events = await collect(producer.events('t-1'))
    expect(events).toMatchObject([{ seq: 1, type: 'phase.started', phase: 'queued', attempt: 0 }])
  })

  it('does nothing for the same content, and refuses other content', async () => {
    await producer.enqueue(task('t-1'))
    expect(await producer.enqueue({ run: { script: 'true' }, taskId: 't-1' })).toEqual({
      taskId: 't-1',
      status: 'same',
    })
    await expect(producer.enqueue(task('t-1', 'false'))).rejects.toMatchObject({
      code: 'task.conflict',
      taskIds: ['t-1'],
      message: expect.stringMatching(/^task t-1 can't be enqueued; .+; use a new taskId/) as unknown,
    })
    expect(await redis.llen(`${REDIS_PREFIX}:${queue}:wait`)).toBe(0)
    expect(await redis.zcard(`${REDIS_PREFIX}:${queue}:prioritized`)).toBe(1)
  })

  it('refuses an invalid task before it reaches Redis', async () => {
    await expect(producer.enqueue({ taskId: 't-1', run: {} })).rejects.toBeInstanceOf(SpecError)
    expect(await redis.keys(`*${queue}:*`)).toEqual([])
  })

  it('adds the job that a crashed producer left out, with its first createdAt', async () => {
    await producer.enqueue(task('t-1'))
    const before = JSON.parse((await redis.hget(jobKey('t-1'), 'data')) ?? '') as { createdAt: string }
    await redis.del(jobKey('t-1'), `${REDIS_PREFIX}:${queue}:prioritized`)
    expect(await producer.enqueue(task('t-1'))).toMatchObject({ status: 'same' })
    expect(JSON.parse((await redis.hget(jobKey('t-1'), 'data')) ?? '')).toEqual(before)
    expect(await redis.zcard(`${REDIS_PREFIX}:${queue}:prioritized`)).toBe(1)
  })

  it('adds no job again for a finished task', async () => {
    const worker = await running('t-1')
    await worker.finish()
    await redis.del(jobKey('t-1'))
    await producer.enqueue(task('t-1'))
    expect(await redis.exists(jobKey('t-1'))).toBe(0)
  })

  it('holds a task back until notBefore, and a cancel brings it forward', async () => {
    const notBefore = new Date(Date.now() + 3_600_000).toISOString()
    await producer.enqueue({ ...task('t-1'), notBefore, priority: 'critical' })
    expect(await redis.zcard(`${REDIS_PREFIX}:${queue}:delayed`)).toBe(1)
    expect(await producer.cancel('t-1')).toBe('requested')
    expect(await redis.zcard(`${REDIS_PREFIX}:${queue}:delayed`)).toBe(0)
    expect(await redis.lrange(`${REDIS_PREFIX}:${queue}:wait`, 0, -1)).toEqual(['t-1'])
  })
})

describe('enqueueMany', () => {
  it('sends more than one pipeline holds, in order', async () => {
    const tasks = Array.from({ length: 600 }, (_, i) => task(`t-${i}`))
    const sent = await producer.enqueueMany(tasks)
    expect(sent).toEqual(tasks.map(({ taskId }) => ({ taskId, status: 'created' })))
    expect(await redis.zrange(`${REDIS_PREFIX}:${queue}:prioritized`, '0', '-1')).toEqual(
      tasks.map(({ taskId }) => taskId),
    )
    const again = await producer.enqueueMany([...tasks.slice(0, 2), task('new')])
    expect(again.map(({ status }) => status)).toEqual(['same', 'same', 'created'])
  })

  it('sends none when one is invalid or taken', async () => {
    await producer.enqueue(task('taken'))
    await expect(producer.enqueueMany([task('a'), { taskId: 'b', run: {} }])).rejects.toBeInstanceOf(
      SpecError,
    )
    await expect(producer.enqueueMany([task('a'), task('taken', 'false')])).rejects.toMatchObject({
      code: 'task.conflict',
      taskIds: ['taken'],
    })
    await expect(producer.result('a')).rejects.toMatchObject({ code: 'task.unknown' })
  })

  it('takes an empty list', async () => {
    expect(await producer.enqueueMany([])).toEqual([])
  })
})

describe('cancel', () => {
  it('is requested once, with the first reason, and comes too late after the end', async () => {
    const worker = await running('t-1')
    expect(await producer.cancel('t-1', 'first')).toBe('requested')
    expect(await producer.cancel('t-1', 'second')).toBe('already')
    expect(await redis.get(redisNames(queue).cancel('t-1'))).toBe('first')
    const events = await collect(producer.events('t-1'))
    expect(events.at(-1)).toMatchObject({
      type: 'cancel.requested',
      attempt: 1,
      phase: 'run',
      data: { reason: 'first' },
    })
    await worker.finish({ status: 'canceled' })
    expect(await producer.cancel('t-1')).toBe('finished')
  })

  it('tells the workers', async () => {
    await producer.enqueue(task('t-1'))
    const listener = redis.duplicate()
    await listener.subscribe(redisNames(queue).cancelChannel)
    const message = once(listener, 'message')
    await producer.cancel('t-1')
    expect(await message).toEqual([redisNames(queue).cancelChannel, 't-1'])
    listener.disconnect()
  })

  it('knows no unknown task', async () => {
    await expect(producer.cancel('nobody')).rejects.toMatchObject({ code: 'task.unknown', taskId: 'nobody' })
  })
})

describe('result and waitForResult', () => {
  it('is null before the end, the result after it', async () => {
    const worker = await running('t-1')
    expect(await producer.result('t-1')).toBeNull()
    const result = await worker.finish()
    expect(await producer.result('t-1')).toEqual(result)
    expect(await producer.waitForResult('t-1')).toEqual(result)
  })

  it('wakes every waiter by the message', async () => {
    const workers = await Promise.all(['a', 'b'].map(running))
    const waits = ['a', 'a', 'b'].map(id => producer.waitForResult(id))
    await subscribed()
    await Promise.all(workers.map(worker => worker.finish()))
    expect((await Promise.all(waits)).map(({ taskId }) => taskId)).toEqual(['a', 'a', 'b'])
  })

  it('ends with the signal', async () => {
    await producer.enqueue(task('t-1'))
    const stop = new AbortController()
    const waiting = producer.waitForResult('t-1', { signal: stop.signal })
    stop.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    await expect(producer.waitForResult('t-1', { signal: AbortSignal.abort() })).rejects.toThrow('aborted')
  })

  it('knows no unknown task', async () => {
    await expect(producer.result('nobody')).rejects.toMatchObject({ code: 'task.unknown' })
    await expect(producer.waitForResult('nobody')).rejects.toMatchObject({ code: 'task.unknown' })
  })

  it('ends with the producer', async () => {
    await producer.enqueue(task('t-1'))
    const waiting = producer.waitForResult('t-1')
    const ended = expect(waiting).rejects.toMatchObject({ code: 'producer.closed' })
    await producer.close()
    await ended
    await expect(producer.result('t-1')).rejects.toMatchObject({ code: 'producer.closed' })
  })
})

describe('logs and events', () => {
  it('gives a late joiner everything, then what comes, and ends with the task', async () => {
    const worker = await running('t-1')
    for (let i = 1; i <= 1200; i += 1) await worker.log(`line ${i}\n`)
    const log = producer.logs('t-1', { follow: true })
    for (let i = 1; i <= 1200; i += 1)
      expect((await log.next()).value).toMatchObject({ seq: i, text: `line ${i}\n` })
    const next = log.next()
    await worker.log('live\n', 'stderr')
    expect((await next).value).toMatchObject({ seq: 1201, stream: 'stderr', text: 'live\n' })
    const end = log.next()
    await worker.finish()
    expect(await end).toEqual({ done: true, value: undefined })
  })

  it('starts at the seq that was asked for, and stops without follow at what is there', async () => {
    const worker = await running('t-1')
    for (const text of ['a', 'b', 'c']) await worker.log(text)
    expect((await collect(producer.logs('t-1', { from: 2 }))).map(({ text }) => text)).toEqual(['b', 'c'])
    await worker.finish()
    expect((await collect(producer.logs('t-1', { from: 3, follow: true }))).map(({ text }) => text)).toEqual([
      'c',
    ])
    expect(await collect(producer.logs('t-1', { from: 99, follow: true }))).toEqual([])
    await expect(producer.logs('t-1', { from: 0 }).next()).rejects.toThrow(RangeError)
  })

  it('follows events to task.finished', async () => {
    const worker = await running('t-1')
    const following = collect(producer.events('t-1', { follow: true }))
    await worker.event('phase.started', 'run')
    await worker.finish()
    const types = (await following).map(({ seq, type }) => `${seq} ${type}`)
    expect(types).toEqual(['1 phase.started', '2 phase.started', '3 task.finished'])
  })

  it('ends with return(), with the signal and with the producer, and leaves no connection', async () => {
    await running('t-1')
    const before = await connections()
    const returned = producer.logs('t-1', { follow: true })
    const pending = returned.next()
    await connectionsBecome(before + 1)
    await returned.return?.()
    expect(await pending).toEqual({ done: true, value: undefined })

    const stop = new AbortController()
    const aborted = producer.logs('t-1', { follow: true, signal: stop.signal }).next()
    await connectionsBecome(before + 1)
    stop.abort(new Error('enough'))
    await expect(aborted).rejects.toThrow('enough')

    const closed = expect(producer.logs('t-1', { follow: true }).next()).rejects.toMatchObject({
      code: 'producer.closed',
    })
    await connectionsBecome(before + 1)
    await producer.close()
    await closed
    await connectionsBecome(0)
  })

  it('knows no unknown task', async () => {
    await expect(producer.logs('nobody', { follow: true }).next()).rejects.toMatchObject({
      code: 'task.unknown',
    })
    await expect(collect(producer.patch('nobody'))).rejects.toMatchObject({ code: 'task.unknown' })
  })

  it('resumes where its connection broke', async () => {
    const worker = await running('t-1')
    const seen: string[] = []
    const following = (async () => {
      for await (const { text } of producer.logs('t-1', { follow: true })) {
        seen.push(text)
        if (Number(text) % 20 === 10) await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      }
    })()
    for (let i = 0; i < 100; i += 1) await worker.log(String(i))
    await worker.finish()
    await following
    expect(seen).toEqual(Array.from({ length: 100 }, (_, i) => String(i)))
  })

  it('lets the program live while its connection is broken and has not yet said so', async () => {
    const sockets: Socket[] = []
    const tapped = createProducer({ redis: tappedOptions(sockets), queue })
    const worker = await running('t-1')
    const log = tapped.logs('t-1', { follow: true })
    const first = log.next()
    await worker.log('first')
    expect((await first).value).toMatchObject({ text: 'first' })
    // Destroyed and not yet closed: ioredis calls it ready and refuses every command in the same turn. A follower that
    // tried again at once would never let the loop come to the close, and this test would hang instead of fail.
    for (const socket of sockets) socket.destroy()
    const second = log.next()
    await worker.log('second')
    expect((await second).value).toMatchObject({ text: 'second' })
    await log.return?.()
    await tapped.close()
  })
})

/** Options for the tests' Redis whose every socket is put into `sockets`. */
function tappedOptions(sockets: Socket[]): RedisOptions {
  const { hostname, port } = new URL(url)
  class Tap {
    connecting = false
    firstError?: Error
    #socket: Socket | null = null

    check(): boolean {
      return true
    }

    async connect(): Promise<Socket> {
      this.connecting = true
      this.#socket = connect(Number(port), hostname)
      sockets.push(this.#socket)
      return Promise.resolve(this.#socket)
    }

    disconnect(): void {
      this.connecting = false
      this.#socket?.end()
    }
  }
  return { host: hostname, port: Number(port), Connector: Tap as unknown as RedisOptions['Connector'] }
}

describe('workers', () => {
  it('lists those that are alive', async () => {
    expect(await producer.workers()).toEqual([])
    const alive = await announceWorker(redis, queue, 'alive')
    await announceWorker(redis, queue, 'dead')
    await redis.del(redisNames(queue).worker('dead'))
    expect(await producer.workers()).toEqual([alive])
  })
})

describe('without Redis', () => {
  it('fails fast and says what to do', async () => {
    const gone = await startPrivateRedis()
    await gone.stop()
    const away = createProducer({ redis: gone.url.replace('//', '//user:hunter2@') })
    const calls: (() => Promise<unknown>)[] = [
      () => away.enqueue(task('t-1')),
      () => away.enqueueMany([task('t-1')]),
      () => away.result('t-1'),
      () => away.waitForResult('t-1'),
      () => away.cancel('t-1'),
      () => away.workers(),
      () => away.logs('t-1', { follow: true }).next(),
    ]
    const started = performance.now()
    for (const error of await Promise.all(calls.map(call => call().catch((failure: unknown) => failure)))) {
      expect(error).toMatchObject({ code: 'redis.unavailable', name: 'RedisUnavailableError' })
      expect((error as Error).message).toMatch(
        /^Redis at redis:\/\/127.0.0.1:\d+\/0 can't be used; .*ECONNREFUSED.*; check/,
      )
      expect(String((error as Error).stack)).not.toContain('hunter2')
    }
    expect(performance.now() - started).toBeLessThan(3000)
    await away.close()
  })

  it('fails in time when Redis takes connections and never answers', async () => {
    const sockets: { destroy(): void }[] = []
    const mute = createServer(socket => sockets.push(socket)).listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const away = createProducer({ redis: `redis://127.0.0.1:${(mute.address() as { port: number }).port}` })
    const started = performance.now()
    await expect(away.enqueue(task('t-1'))).rejects.toMatchObject({ code: 'redis.unavailable' })
    expect(performance.now() - started).toBeLessThan(3000)
    await away.close()
    for (const socket of sockets) socket.destroy()
    mute.close()
  })

  it('rides out a restart: waiters and followers go on, and calls work again', async () => {
    const own = await startPrivateRedis()
    const hand = new Redis(own.url)
    hand.on('error', () => undefined)
    const restarted = createProducer({ redis: own.url, queue })
    await restarted.enqueue(task('t-1'))
    const worker = new ScriptedWorker(hand, queue, 't-1')
    await worker.begin()
    await worker.log('before')
    const log = restarted.logs('t-1', { follow: true })
    expect((await log.next()).value).toMatchObject({ text: 'before' })
    const rest = collect(log)
    const waiting = restarted.waitForResult('t-1')
    await subscribed(hand)
    await own.kill()
    await expect(restarted.enqueue(task('t-2'))).rejects.toMatchObject({ code: 'redis.unavailable' })
    await own.resume()
    await worker.log('after')
    const result = await worker.finish()
    expect(await waiting).toEqual(result)
    expect(await rest).toMatchObject([{ seq: 2, text: 'after' }])
    expect(await restarted.enqueue(task('t-2'))).toMatchObject({ status: 'created' })
    await restarted.close()
    hand.disconnect()
    await own.stop()
  })
})

describe('createProducer', () => {
  it('refuses what can never work', () => {
    expect(() => createProducer({ redis: url, queue: 'a:b' })).toThrow(RangeError)
    expect(() => createProducer({ redis: { keyPrefix: 'x' } })).toThrow(RangeError)
  })
})

/** How many connections Redis has besides the test's own. */
async function connections(): Promise<number> {
  const clients = String(await redis.call('CLIENT', 'LIST', 'TYPE', 'normal'))
  return clients.trim().split('\n').length - 1
}

async function connectionsBecome(count: number): Promise<void> {
  await eventually(async () => (await connections()) === count, { every: 5, what: `${count} connections` })
}

async function subscribed(to = redis): Promise<void> {
  const channel = redisNames(queue).doneChannel
  const count = async () => ((await to.pubsub('NUMSUB', channel)) as [string, number])[1]
  await eventually(async () => (await count()) > 0, { every: 5, what: 'a subscription' })
}
