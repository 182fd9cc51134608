import { once } from 'node:events'
import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { REDIS_PREFIX } from '@agirunner/contracts'
import { eventually, type PrivateRedis, startPrivateRedis, uniqueQueue } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Job, Queue, Worker } from 'bullmq'
import { type Board, createBoard } from './server.js'

const PASSWORD = 'correct horse battery'
/** In everything that a job can hold; made up. */
const TOKEN = `ghp_${'Zz9'.repeat(12)}`
const name = uniqueQueue('board')
const job = { data: 'with-secrets', returned: 'with-result' }

let redis: PrivateRedis
let board: Board
let queue: Queue
let worker: Worker

beforeAll(async () => {
  redis = await startPrivateRedis()
  const connection = { url: redis.url, maxRetriesPerRequest: null }
  queue = new Queue(name, { connection, prefix: REDIS_PREFIX })
  worker = new Worker(name, process, { connection, prefix: REDIS_PREFIX })
  await queue.add(
    `task ${TOKEN}`,
    { task: { env: { X_TOKEN: 'plain words' }, run: { script: `curl ${TOKEN}` } } },
    { jobId: job.data },
  )
  await queue.add('task', {}, { jobId: job.returned })
  await eventually(async () => (await queue.getJobCounts('failed', 'completed')).completed === 1)
  await eventually(async () => (await queue.getJobCounts('failed')).failed === 1)
  board = await createBoard({
    redisUrl: redis.url,
    queue: name,
    host: '127.0.0.1',
    port: 0,
    password: PASSWORD,
  })
})
afterAll(async () => {
  await board.close()
  await worker.close()
  await queue.close()
  await redis.stop()
})

async function process(running: Job) {
  await running.log(`pushing to https://me:${TOKEN}@git.example.com`)
  await running.updateProgress({ note: TOKEN })
  if (running.id === job.data) throw new Error(`remote refused ${TOKEN}`)
  return { output: TOKEN, password: 'plain words' }
}

function get(path: string, password: string | null = PASSWORD, init: RequestInit = {}): Promise<Response> {
  const credentials = Buffer.from(`operator:${password}`).toString('base64')
  const headers = password === null ? {} : { authorization: `Basic ${credentials}` }
  return fetch(`${board.url}${path}`, { redirect: 'manual', ...init, headers })
}

const api = `/queues/api/queues/${name}`
const ANSWERS = [
  `/queues/api/queues?activeQueue=${name}`,
  `/queues/api/queues?activeQueue=${name}&status=failed`,
  `/queues/api/queues?activeQueue=${name}&status=completed`,
  ...[job.data, job.returned].flatMap(id => [`${api}/${id}`, `${api}/${id}/logs`, `${api}/${id}/flow`]),
  `${api}/default-job-options`,
  `${api}/workers`,
  `${api}/metrics?type=failed`,
  '/queues/api/job-schedulers',
  '/queues/api/redis/stats',
]
const PAGES = [
  '/queues',
  '/queues/',
  `/queues/queue/${name}`,
  `/queues/queue/${name}/${job.data}`,
  '/queues/static/favicon-32x32.png',
]

describe('the door', () => {
  it.each(['/', '/none', '/tasks/x', '/api/session', '/api/overview', ...PAGES, ...ANSWERS])(
    'is shut at %s without the password',
    async path => {
      for (const password of [null, '', 'wrong', `${PASSWORD} `]) {
        const answer = await get(path, password)
        expect(answer.status).toBe(401)
        expect(answer.headers.get('www-authenticate')).toMatch(/^Basic realm=/)
        expect(await answer.text()).not.toContain(name)
      }
    },
  )

  it('takes no other header for a password', async () => {
    for (const authorization of [`Bearer ${PASSWORD}`, 'Basic', 'Basic !', `Basic ${PASSWORD}`]) {
      expect((await fetch(`${board.url}/queues`, { headers: { authorization } })).status).toBe(401)
    }
  })

  it.each([...PAGES, ...ANSWERS])('opens at %s with it', async path => {
    const answer = await get(path)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-security-policy')).toMatch(/default-src 'none'/)
    expect(answer.headers.get('x-content-type-options')).toBe('nosniff')
  })

  it('lets anybody ask whether it lives, and says no more', async () => {
    const answer = await get('/healthz', null)
    expect([answer.status, await answer.json()]).toEqual([200, { status: 'ok' }])
  })

  it('changes nothing in the queue, for the operator either', async () => {
    for (const [path, method] of [
      [`${api}/${job.data}/retry/failed`, 'PUT'],
      ['/queues/api/queues/pause', 'PUT'],
      [`${api}/obliterate`, 'PUT'],
      [`${api}/add`, 'POST'],
    ] as const) {
      expect((await get(path, PASSWORD, { method })).status).toBe(405)
      expect((await get(path, null, { method })).status).toBe(401)
    }
    expect(await queue.isPaused()).toBe(false)
    expect(await queue.getJobCounts('failed')).toEqual({ failed: 1 })
  })
})

describe('what is shown', () => {
  it('is there', async () => {
    const shown = await (await get(`${api}/${job.data}`)).json()
    expect(shown).toMatchObject({
      status: 'failed',
      job: { id: job.data, failedReason: 'remote refused [redacted]' },
    })
    expect(await (await get(`${api}/${job.data}/logs`)).json()).toEqual([
      'pushing to https://[redacted]@git.example.com',
    ])
  })

  it('holds no secret anywhere', async () => {
    const stored = await queue.getJob(job.data)
    expect(JSON.stringify(stored)).toContain(TOKEN)
    for (const path of [...PAGES, ...ANSWERS]) {
      const text = await (await get(path)).text()
      expect(text).not.toContain(TOKEN)
      expect(text).not.toContain('plain words')
    }
  })
})

describe('the address', () => {
  it('is on loopback and nowhere else', async () => {
    expect(board.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    const { port } = new URL(board.url)
    const others = Object.values(networkInterfaces())
      .flatMap(list => list ?? [])
      .filter(({ internal, family }) => !internal && family === 'IPv4')
    for (const { address } of others)
      await expect(fetch(`http://${address}:${port}/healthz`)).rejects.toThrow()
  })

  it('that is taken is an error that says so', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as { port: number }
    const late = createBoard({
      redisUrl: redis.url,
      queue: name,
      host: '127.0.0.1',
      port,
      password: PASSWORD,
    })
    await expect(late).rejects.toThrow(/EADDRINUSE/)
    taken.close()
  })
})

describe('without Redis', () => {
  it('does not start', async () => {
    const start = createBoard({
      redisUrl: 'redis://127.0.0.1:1',
      queue: name,
      host: '127.0.0.1',
      port: 0,
      password: PASSWORD,
    })
    await expect(start).rejects.toThrow(
      /Redis at 127\.0\.0\.1:1 is not usable: .*ECONNREFUSED.*check REDIS_URL/,
    )
  })
})
