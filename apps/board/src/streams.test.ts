import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type LogEntry, redisNames, type TaskEvent } from '@agirunner/contracts'
import { createProducer, type Producer } from '@agirunner/producer'
import { eventually, type PrivateRedis, startPrivateRedis } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import type { Overview } from './api.js'
import { type Board, createBoard } from './server.js'
import { basic, OPERATOR, post, startBoard, visit } from './testing/client.js'
import { PlayedTask } from './testing/store.js'

const TOKEN = `ghp_${'Zz9'.repeat(12)}`
const queue = 'streams'
const names = redisNames(queue)
const operator = basic('operator', OPERATOR)

let redis: PrivateRedis
let data: Redis
let producer: Producer
let board: Board
let count = 0
let taskId = ''
let task: PlayedTask
const open: Stream[] = []

beforeAll(async () => {
  redis = await startPrivateRedis()
  data = new Redis(redis.url)
  producer = createProducer({ redis: redis.url, queue })
  board = await startBoard(redis.url, queue)
})
beforeEach(async () => {
  count += 1
  taskId = `task-${count}`
  task = new PlayedTask(data, names, taskId)
  await producer.enqueue({ taskId, run: { script: 'true' } })
  await task.begin()
})
afterEach(() => {
  for (const stream of open.splice(0)) stream.close()
})
afterAll(async () => {
  await board.close()
  await producer.close()
  data.disconnect()
  await redis.stop()
})

interface Message {
  readonly id: string | undefined
  readonly event: string
  readonly data: unknown
}

/** Reads server-sent events as a browser does. */
class Stream {
  readonly response: Response
  readonly messages: Message[] = []
  isOver = false
  readonly #end: AbortController

  constructor(response: Response, end: AbortController) {
    this.response = response
    this.#end = end
    open.push(this)
    void this.#read()
  }

  of<T>(event: string): T[] {
    return this.messages.filter(message => message.event === event).flatMap(message => message.data as T[])
  }

  close(): void {
    this.#end.abort()
  }

  async #read(): Promise<void> {
    let rest = ''
    try {
      for await (const text of this.response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        const blocks = (rest + text).split('\n\n')
        rest = blocks.pop() ?? ''
        for (const block of blocks) this.#take(block)
      }
    } catch {
      // It was closed here, or there.
    }
    this.isOver = true
  }

  #take(block: string): void {
    const fields = new Map(
      block.split('\n').map(line => line.split(/: (.*)/s).slice(0, 2) as [string, string]),
    )
    const event = fields.get('event')
    if (event === undefined) return
    this.messages.push({ id: fields.get('id'), event, data: JSON.parse(fields.get('data') ?? '') })
  }
}

async function listen(
  path: string,
  headers: Record<string, string> = operator,
  url = board.url,
): Promise<Stream> {
  const end = new AbortController()
  const response = await fetch(`${url}/api/${path}`, { headers, signal: end.signal })
  return new Stream(response, end)
}

const textOf = (stream: Stream) =>
  stream
    .of<LogEntry>('log')
    .map(({ text }) => text)
    .join('')

describe('the stream of a task', () => {
  it('tells of its log and its events as they come, and of its end', async () => {
    const stream = await listen(`tasks/${taskId}/stream`)
    expect(stream.response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(stream.response.headers.get('cache-control')).toBe('no-store')
    await task.log('one\n')
    await eventually(async () => textOf(stream) === 'one\n')
    await task.log('two\n', 'stderr')
    await task.event({ n: 1 })
    await eventually(async () => stream.of('event').length === 2 && textOf(stream) === 'one\ntwo\n')
    expect(stream.of<LogEntry>('log')[1]).toMatchObject({ seq: 2, stream: 'stderr', attempt: 1 })
    await task.finish()
    await eventually(async () => stream.isOver)
    expect(stream.messages.at(-1)).toEqual({ id: '2.3', event: 'done', data: {} })
    expect(stream.of<TaskEvent>('event').map(({ seq, type }) => `${seq} ${type}`)).toEqual([
      '1 phase.started',
      '2 phase.progress',
      '3 task.finished',
    ])
  })

  it('goes on where it broke off, by its last id or by what the page says', async () => {
    for (let line = 1; line <= 1500; line += 1) await task.log(`${line}\n`)
    const first = await listen(`tasks/${taskId}/stream`)
    await eventually(async () => first.of('log').length > 0)
    first.close()
    const last = first.messages.at(-1)?.id ?? ''
    const got = first.of<LogEntry>('log').length
    await task.finish()
    const ways: [string, Record<string, string>][] = [
      [`tasks/${taskId}/stream?log=0&events=0`, { 'last-event-id': last }],
      [`tasks/${taskId}/stream?log=${got}&events=${last.split('.')[1]}`, {}],
    ]
    for (const [path, headers] of ways) {
      const rest = await listen(path, { ...operator, ...headers })
      await eventually(async () => rest.isOver)
      const seqs = rest.of<LogEntry>('log').map(({ seq }) => seq)
      expect(seqs).toEqual(Array.from({ length: 1500 - got }, (_, i) => got + 1 + i))
      expect(rest.of<TaskEvent>('event').map(({ seq }) => seq)).toEqual(last.endsWith('.1') ? [2] : [1, 2])
    }
    const nothing = await listen(`tasks/${taskId}/stream`, { ...operator, 'last-event-id': '1500.2' })
    await eventually(async () => nothing.isOver)
    expect(nothing.messages).toEqual([{ id: '1500.2', event: 'done', data: {} }])
  })

  it.each(['log=-1', 'log=x', 'events=1.5', 'log=1e99'])('begins nowhere else: %s', async query => {
    expect((await listen(`tasks/${taskId}/stream?${query}`)).response.status).toBe(400)
  })

  it('holds no secret: in an entry, over entries, in an event, nor for who begins in the middle', async () => {
    const key = [
      '-----BEGIN PRIVATE KEY-----',
      ...Array.from({ length: 20 }, () => 'aB3d'.repeat(16)),
      '-----END PRIVATE KEY-----',
    ]
    await task.log(`a ${TOKEN} b\n`)
    await task.log(`c ${TOKEN.slice(0, 12)}`)
    await task.log(`${TOKEN.slice(12)} d\n`)
    for (const line of key) await task.log(`${line}\n`)
    await task.log('end\n')
    await task.event({ url: `https://me:${TOKEN}@x`, password: 'plain words' })
    await task.finish()
    const whole = await listen(`tasks/${taskId}/stream`)
    await eventually(async () => whole.isOver)
    expect(textOf(whole)).toBe('a [redacted] b\nc [redacted] d\n[redacted]\nend\n')
    for (let from = 0; from <= 25; from += 1) {
      const part = await listen(`tasks/${taskId}/stream?log=${from}`)
      await eventually(async () => part.isOver)
      const shown = JSON.stringify(part.messages)
      expect(shown).not.toMatch(/Zz9Zz9|aB3d|plain words/)
      expect(textOf(part)).toMatch(/end\n$/)
    }
  })

  it('does not grow for a reader that does not read, and leaves it', async () => {
    const impatient = await createBoard({
      redisUrl: redis.url,
      queue,
      host: '127.0.0.1',
      port: 0,
      password: OPERATOR,
      streams: { streams: 1, stalledMs: 500 },
    })
    const block = 'x'.repeat(60_000)
    for (let line = 0; line < 400; line += 1) await task.log(`${block}\n`)
    const socket = await silentReader(impatient.url, `/api/tasks/${taskId}/stream`)
    // The only place for a stream is taken until it is let go of.
    const isFree = async () => (await listen('stream', operator, impatient.url)).response.status === 200
    expect(await isFree()).toBe(false)
    await eventually(isFree)
    let bytes = 0
    socket.on('data', (piece: Buffer) => (bytes += piece.length))
    await once(socket, 'close')
    // Of some 24 MB it got what the buffers of both ends hold.
    expect(bytes).toBeGreaterThan(0)
    expect(bytes).toBeLessThan(15_000_000)
    await impatient.close()
  })
})

/** Asks for a stream and reads nothing of it. */
async function silentReader(url: string, path: string): Promise<Socket> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) })
  await once(socket, 'connect')
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: ${operator.authorization}\r\n\r\n`)
  await once(socket, 'readable')
  socket.on('error', () => undefined)
  return socket
}

describe('the live stream', () => {
  it('tells of the overview and the containers, each when it changed', async () => {
    const stream = await listen('stream')
    await eventually(async () => stream.of('overview').length === 1 && stream.of('containers').length === 1)
    const { waiting } = stream.of<Overview>('overview')[0]?.queue ?? {}
    await producer.enqueue({ taskId: `${taskId}-more`, run: { script: 'true' } })
    await eventually(async () => stream.of('overview').length === 2)
    expect(stream.of<Overview>('overview')[1]?.queue.waiting).toBe((waiting ?? 0) + 1)
    expect(stream.of('containers')).toHaveLength(1)
  })
})

describe('any stream', () => {
  it('ends with its session, and others go on', async () => {
    const [one, other] = await Promise.all([visit(board.url), visit(board.url)])
    const paths = ['stream', `tasks/${taskId}/stream`]
    const streams = await Promise.all(paths.map(async path => await listen(path, { cookie: one.cookie })))
    const going = await listen('stream', { cookie: other.cookie })
    await eventually(async () => streams.every(stream => stream.messages.length > 0))
    await post(`${board.url}/api/logout`, { cookie: one.cookie, 'x-csrf-token': one.session.csrf })
    await eventually(async () => streams.every(stream => stream.isOver))
    expect(going.isOver).toBe(false)
    expect((await listen('stream', { cookie: one.cookie })).response.status).toBe(401)
  })

  it('ends with a session that ended elsewhere or by itself', async () => {
    const watchful = await startBoard(redis.url, queue, { streams: { sessionMs: 100 } })
    const { cookie } = await visit(watchful.url)
    const [stream, program] = [
      await listen('stream', { cookie }, watchful.url),
      await listen('stream', operator, watchful.url),
    ]
    await eventually(async () => stream.messages.length > 0 && program.messages.length > 0)
    // So far it was asked about, and went on.
    await eventually(async () => {
      const asked = await data.info('commandstats')
      return Number(/cmdstat_get:calls=(\d+)/.exec(asked)?.[1] ?? 0) > 10
    })
    expect(stream.isOver).toBe(false)
    const keys = await data.keys(names.session('*'))
    await data.del(...keys)
    await eventually(async () => stream.isOver)
    expect(program.isOver).toBe(false)
    await watchful.close()
  })

  it('is one of so many, and ends with the board', async () => {
    const small = await startBoard(redis.url, queue, { streams: { streams: 2 } })
    const streams = [await listen('stream', operator, small.url), await listen('stream', operator, small.url)]
    const refused = await fetch(`${small.url}/api/stream`, { headers: operator })
    expect([refused.status, await refused.json()]).toEqual([
      503,
      { error: expect.stringMatching(/2 streams/) },
    ])
    streams[0]?.close()
    await eventually(async () => {
      const again = await listen('stream', operator, small.url)
      return again.response.status === 200
    })
    await small.close()
    await eventually(async () => streams.every(stream => stream.isOver))
  })
})
