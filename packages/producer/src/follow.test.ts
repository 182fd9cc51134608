import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { LogEntry } from '@agirunner/contracts'
import { type PrivateRedis, startPrivateRedis } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { createProducer, type Producer } from './index.js'
import { ScriptedWorker } from './testing/scripted-worker.js'

let server: PrivateRedis
let redis: Redis
let producer: Producer
let queue: string
let breaking: BreakingProxy

beforeAll(async () => {
  server = await startPrivateRedis()
  redis = new Redis(server.url)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})
beforeEach(async () => {
  queue = `test-${randomUUID()}`
  breaking = await BreakingProxy.before(server.url)
  producer = createProducer({ redis: breaking.url, queue })
})
afterEach(async () => {
  await producer.close()
  await breaking.close()
})

/** Passes connections on to a Redis, and breaks them off, somewhere in what Redis answers. */
class BreakingProxy {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** How many bytes the next connection lives for. */
  lifeOf: (connection: number) => number = () => Number.POSITIVE_INFINITY
  broken = 0
  #connections = 0

  static async before(url: string): Promise<BreakingProxy> {
    const { hostname, port } = new URL(url)
    const proxy = new BreakingProxy(hostname, Number(port))
    await once(proxy.#server.listen(0, '127.0.0.1'), 'listening')
    return proxy
  }

  private constructor(host: string, port: number) {
    this.#server = createServer(client => this.#join(client, connect(port, host)))
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise(done => this.#server.close(done))
  }

  #join(client: Socket, redis: Socket): void {
    this.#connections += 1
    let left = this.lifeOf(this.#connections)
    for (const [socket, other] of [
      [client, redis],
      [redis, client],
    ] as const) {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
    client.on('data', bytes => redis.write(bytes))
    redis.on('data', bytes => {
      const some = bytes.subarray(0, left)
      left -= some.length
      client.write(some, () => {
        if (left > 0) return
        this.broken += 1
        client.destroy()
      })
    })
  }
}

const LINES = 100_000
const PER_ENTRY = 20
const lineOf = (index: number) => `${index} ö€𝄞\n`
const ENTRIES = Array.from({ length: LINES / PER_ENTRY }, (_, entry) =>
  Array.from({ length: PER_ENTRY }, (_, line) => lineOf(entry * PER_ENTRY + line)).join(''),
)

/** Writes all entries, so many at once. */
async function write(worker: ScriptedWorker): Promise<void> {
  for (let at = 0; at < ENTRIES.length; at += 100)
    await Promise.all(ENTRIES.slice(at, at + 100).map(text => worker.log(text)))
  await worker.finish()
}

async function running(taskId: string): Promise<ScriptedWorker> {
  await producer.enqueue({ taskId, run: { script: 'true' } })
  const worker = new ScriptedWorker(redis, queue, taskId)
  await worker.begin()
  return worker
}

async function read(taskId: string, from = 1): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  for await (const entry of producer.logs(taskId, { follow: true, from })) entries.push(entry)
  return entries
}

function expectAll(entries: readonly LogEntry[], from = 1): void {
  expect(entries.map(({ seq }) => seq)).toEqual(
    Array.from({ length: ENTRIES.length - from + 1 }, (_, index) => from + index),
  )
  expect(entries.map(({ text }) => text).join('') === ENTRIES.slice(from - 1).join('')).toBe(true)
}

describe('a hundred thousand lines over connections that break', () => {
  it('come complete, in order and once: as they come, late, and from the middle', async () => {
    const worker = await running('t-1')
    // Some live for less than one page takes, some for several; all end in the middle of an answer.
    breaking.lifeOf = connection => 20_000 + ((connection * 77_773) % 700_000)
    const following = read('t-1')
    const writing = write(worker)
    const [late, middle] = await Promise.all([read('t-1'), read('t-1', 2501)])
    await writing
    expectAll(await following)
    expectAll(late)
    expectAll(middle, 2501)
    expect(breaking.broken).toBeGreaterThan(5)
  }, 60_000)

  it('come also when no connection lives as long as a page takes', async () => {
    const worker = await running('t-2')
    const writing = write(worker)
    breaking.lifeOf = () => 150_000
    expectAll(await read('t-2'))
    await writing
    expect(breaking.broken).toBeGreaterThan(5)
  }, 60_000)
})
