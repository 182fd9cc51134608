import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type RedisNames, redisNames, type TaskResult } from '@agirunner/contracts'
import { createProducer, type Producer } from '@agirunner/producer'
import { eventually, type PrivateRedis, startPrivateRedis } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import type { Containers, Overview, TaskList, TaskView } from './api.js'
import type { Board } from './server.js'
import { basic, OPERATOR, post, rawGet, startBoard, VIEWER, visit } from './testing/client.js'
import { beat, PlayedTask, store } from './testing/store.js'

/** In everything that a task can hold; made up. */
const TOKEN = `ghp_${'Zz9'.repeat(12)}`
const queue = 'data'
const names: RedisNames = redisNames(queue)
const PATCH = Buffer.from(`diff --git a/x b/x\n+token=${TOKEN}\n+tail`)
const BYTES = Buffer.from(`<script>alert(1)</script>\0\xff ${TOKEN}`, 'latin1')

let folder: string
let redis: PrivateRedis
let data: Redis
let producer: Producer
let board: Board

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agirunner-board-'))
  redis = await startPrivateRedis()
  data = new Redis(redis.url)
  producer = createProducer({ redis: redis.url, queue })
  await fill()
  board = await startBoard(redis.url, queue)
})
afterAll(async () => {
  await board.close()
  await producer.close()
  data.disconnect()
  await redis.stop()
  await rm(folder, { recursive: true })
})

/** One task that runs, one that has ended, and some that wait; a worker that runs, and one that can enforce less. */
async function fill(): Promise<void> {
  const env = { API_KEY: 'plain words', NOTE: TOKEN }
  const task = (taskId: string, more: object = {}) => ({ taskId, run: { script: 'true' }, ...more })
  await producer.enqueueMany([
    task('running', { tenantId: 'acme', environment: { env } }),
    task('ended', { tenantId: 'acme' }),
    task('first', { priority: 'critical' }),
    task('second', { tenantId: 'acme', priority: 'high' }),
    task('third', { tenantId: 'acme', priority: 'low' }),
    task('later', { notBefore: new Date(Date.now() + 3600_000).toISOString() }),
  ])
  await new PlayedTask(data, names, 'running').begin()
  const ended = new PlayedTask(data, names, 'ended')
  await ended.begin()
  await ended.finish(await resultWithFiles())
  const last = {
    taskId: 'ended',
    tenantId: 'acme',
    status: 'succeeded',
    code: null,
    finishedAt: '2026-01-01T00:00:00.000Z',
    wallMs: 7,
  }
  await data.lpush(names.recent, JSON.stringify(last))
  await data.hset(names.activity(Math.floor(Date.now() / 60_000)), {
    'status:failed': 2,
    'code:task.killed': 2,
  })
  const cache = { bytes: 5, maxBytes: 50, hits: 3, misses: 1 }
  const parking = {
    hits: 2,
    misses: 1,
    filling: false,
    parked: [{ id: 'c', image: 'i', profile: 'user', network: 'none', parkedAt: '' }],
  }
  await beat(data, names, { id: 'w-1', state: 'executing', running: ['running'], cache, parking })
  const capability = {
    name: 'disk quota',
    state: 'weaker',
    detail: `see https://me:${TOKEN}@x`,
    fix: null,
  } as const
  await beat(data, names, {
    id: 'w-2',
    cache,
    capabilities: [capability, { ...capability, name: 'pids', state: 'enforced' }],
  })
}

async function resultWithFiles(): Promise<Partial<TaskResult>> {
  const patch = await store(folder, 'changes.patch', PATCH)
  const file = { path: 'repo/x', from: null, status: 'added', mode: '100644', binary: false } as const
  const nothing = { commits: [], commit: null, bundle: null, pushed: null, notes: [`see ${TOKEN}`] }
  const artifact = { ...(await store(folder, 'artifact', BYTES)), mediaType: 'text/html' }
  return {
    output: { token: 'plain words', said: TOKEN },
    changes: { files: [file], insertions: 2, deletions: 0, tree: '0'.repeat(40), patch, ...nothing },
    artifacts: [
      { ...artifact, path: 'output/ünï "x".html' },
      { ...artifact, path: 'output/gone', uri: pathToFileURL(join(folder, 'gone')).href },
      { ...artifact, path: 'output/damaged', sha256: '0'.repeat(64) },
    ],
  }
}

const operator = basic('operator', OPERATOR)
const get = (path: string, headers: Record<string, string> = operator) =>
  fetch(`${board.url}/api/${path}`, { headers })
const json = async <T>(path: string) => (await (await get(path)).json()) as T

describe('the overview', () => {
  it('says what waits, by priority and tenant, and what the workers can do', async () => {
    const overview = await json<Overview>('overview')
    expect(overview.queue).toEqual({
      waiting: 5,
      delayed: 1,
      active: 0,
      // What runs here does so in name only: its job still waits.
      byPriority: { critical: 1, high: 1, normal: 2, low: 1 },
      byTenant: [
        { tenantId: 'acme', waiting: 4 },
        { tenantId: 'default', waiting: 1 },
      ],
      tenantsOf: 5,
    })
    expect(overview.activity).toHaveLength(60)
    const failed = overview.activity.find(({ statuses }) => statuses.failed)
    expect(failed).toMatchObject({ statuses: { failed: 2 }, failures: { 'task.killed': 2 } })
    expect(overview.capacity).toEqual({ running: 1, total: 8 })
    expect(overview.parking).toEqual({ parked: 1, hits: 2, misses: 1 })
    expect(overview.cache).toEqual({ bytes: 10, maxBytes: 100, hits: 6, misses: 2 })
    expect(overview.workers).toMatchObject([
      { id: 'w-1', state: 'executing', running: ['running'], weak: [] },
      { id: 'w-2', state: 'idle', running: [], weak: ['disk quota'] },
    ])
  })

  it('is read once for many who ask at once', async () => {
    const asked = async () =>
      Number(/cmdstat_smembers:calls=(\d+)/.exec(await data.info('commandstats'))?.[1] ?? 0)
    const before = await asked()
    await Promise.all(Array.from({ length: 50 }, async () => await json('overview')))
    // The board looks after the workers by itself too.
    expect((await asked()) - before).toBeLessThanOrEqual(3)
  })
})

describe('the containers', () => {
  it('are as the workers tell of them, without secrets', async () => {
    const labels = { role: 'developer', note: TOKEN }
    const told = { id: 'c', name: 'n', labels, lastOutput: { at: '', text: `cloning https://me:${TOKEN}@x` } }
    await beat(data, names, { id: 'w-1', state: 'executing', running: ['running'] })
    await data.set(names.containers('w-1'), JSON.stringify({ at: '', containers: [told] }), 'PX', 30_000)
    const shown = { ...told, labels: { role: 'developer', note: '[redacted]' } }
    await eventually(async () => (await json<Containers>('containers')).containers.length === 1)
    expect(await json<Containers>('containers')).toEqual({
      at: expect.stringMatching(/Z$/),
      containers: [{ ...shown, lastOutput: { at: '', text: 'cloning https://[redacted]@x' } }],
    })
  })
})

describe('the list of tasks', () => {
  it('has those that run, that wait, the next one first, and that ended', async () => {
    const { tasks, more } = await json<TaskList>('tasks')
    expect(tasks.map(({ taskId, state }) => `${taskId} ${state}`)).toEqual([
      'running running',
      'first queued',
      'second queued',
      'third queued',
      'later queued',
      'ended finished',
    ])
    expect(more).toBe(false)
    expect(tasks.at(-1)).toEqual({
      taskId: 'ended',
      tenantId: 'acme',
      state: 'finished',
      status: 'succeeded',
      code: null,
      at: '2026-01-01T00:00:00.000Z',
      wallMs: 7,
    })
    expect(tasks[0]).toMatchObject({ tenantId: 'acme', status: null, at: expect.stringMatching(/Z$/) })
  })

  it('is searched by a part of the id or the tenant, and by state', async () => {
    const ids = async (query: string) =>
      (await json<TaskList>(`tasks?${query}`)).tasks.map(({ taskId }) => taskId)
    expect(await ids('q=ACM')).toEqual(['running', 'second', 'third', 'ended'])
    expect(await ids('q=IRS')).toEqual(['first'])
    expect(await ids('state=finished')).toEqual(['ended'])
    expect(await ids('q=acme&state=queued')).toEqual(['second', 'third'])
    expect((await get('tasks?state=none')).status).toBe(400)
    expect((await get(`tasks?q=${'x'.repeat(300)}`)).status).toBe(400)
  })
})

describe('a task', () => {
  it('is shown as it was sent, with its attempts while it runs', async () => {
    expect(await json<TaskView>('tasks/running')).toEqual({
      taskId: 'running',
      tenantId: 'acme',
      state: 'running',
      createdAt: expect.stringMatching(/Z$/),
      spec: {
        taskId: 'running',
        tenantId: 'acme',
        run: { script: 'true' },
        environment: { env: { API_KEY: '[redacted]', NOTE: '[redacted]' } },
      },
      priority: 'normal',
      cancel: null,
      attempts: [
        {
          attempt: 1,
          fence: 1,
          worker: 'w-1',
          startedAt: expect.any(String),
          finishedAt: null,
          failure: null,
        },
      ],
      result: null,
      job: `queues/queue/${queue}/running`,
    })
  })

  it('has its result, and its job where it says', async () => {
    const task = await json<TaskView>('tasks/ended')
    expect(task).toMatchObject({
      state: 'finished',
      result: { output: { token: '[redacted]', said: '[redacted]' } },
    })
    expect((await fetch(`${board.url}/${task.job}`, { headers: operator })).status).toBe(200)
    const shown = await fetch(`${board.url}/queues/api/queues/${queue}/ended`, { headers: operator })
    expect(await shown.json()).toMatchObject({ job: { externalUrl: { href: '/tasks/ended' } } })
  })

  it.each(['none', 'Ended', 'ended-again-1'])('that is not there is not found: %s', async id => {
    for (const path of ['', '/patch', '/stream', '/artifacts/x']) {
      const answer = await get(`tasks/${id}${path}`)
      expect([path, answer.status, await answer.json()]).toEqual([
        path,
        404,
        { error: expect.stringMatching(/is unknown/) },
      ])
    }
    for (const action of ['cancel', 'again']) {
      expect((await post(`${board.url}/api/tasks/${id}/${action}`, operator)).status).toBe(404)
    }
  })

  it.each(['1', 'a:b', 'a%2Fb', '%2e%2e', 'a'.repeat(65), '%00', '{agirunner}', '*'])(
    'can not be %s',
    async id => {
      for (const path of ['', '/patch', '/stream', '/artifacts/x']) {
        const { status, body } = await rawGet(board.url, `/api/tasks/${id}${path}`, operator)
        expect([path, status === 404 ? 400 : status]).toEqual([path, 400])
        expect(JSON.parse(body)).toEqual({ error: expect.any(String) })
      }
    },
  )
})

describe('what a task left', () => {
  it('is its patch as text, without secrets', async () => {
    const answer = await get('tasks/ended/patch')
    expect(answer.headers.get('content-type')).toBe('text/plain; charset=utf-8')
    expect(await answer.text()).toBe('diff --git a/x b/x\n+token=[redacted]\n+tail')
    expect((await get('tasks/running/patch')).status).toBe(409)
  })

  it('is its artifacts, to be saved and never shown, for viewers too', async () => {
    for (const headers of [operator, basic('viewer', VIEWER)]) {
      const answer = await get(`tasks/ended/artifacts/${encodeURIComponent('output/ünï "x".html')}`, headers)
      expect(answer.status).toBe(200)
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        'content-type': 'application/octet-stream',
        'content-disposition': `attachment; filename="_n___x_.html"; filename*=UTF-8''%C3%BCn%C3%AF%20%22x%22.html`,
        'content-security-policy': expect.stringMatching(/^default-src 'none'; sandbox/),
        'x-content-type-options': 'nosniff',
        'cache-control': 'no-store',
      })
      expect(Buffer.from(await answer.arrayBuffer())).toEqual(BYTES)
    }
  })

  it.each([
    'output/none',
    'output/gone',
    'log',
    'changes.patch',
    '../data',
    '..%2f..%2fetc/passwd',
    '/etc/passwd',
    '%2Fetc%2Fpasswd',
    'output/../output/gone',
  ])('is nothing else: %s', async path => {
    const { status, body } = await rawGet(board.url, `/api/tasks/ended/artifacts/${path}`, operator)
    expect([status, JSON.parse(body)]).toEqual([404, { error: expect.any(String) }])
  })

  it('breaks off when it is not what was captured', async () => {
    const answer = await get('tasks/ended/artifacts/output/damaged')
    await expect(answer.arrayBuffer()).rejects.toThrow()
  })
})

describe('what an operator does', () => {
  const change = async (path: string, body?: unknown) => {
    const answer = await post(`${board.url}/api/tasks/${path}`, operator, body)
    return [answer.status, await answer.json()]
  }

  it('is to cancel a task once, with a reason that says who', async () => {
    expect(await change('third/cancel', { reason: ' too late ' })).toEqual([200, { verdict: 'requested' }])
    expect(await change('third/cancel', { reason: 'x' })).toEqual([200, { verdict: 'already' }])
    expect((await json<TaskView>('tasks/third')).cancel).toBe('too late (operator, on the board)')
    expect(await change('ended/cancel')).toEqual([409, { error: expect.stringMatching(/has ended/) }])
    expect((await change('third/cancel', { reason: 'x'.repeat(501) }))[0]).toBe(400)
    expect((await change('third/cancel', { why: 'x' }))[0]).toBe(400)
  })

  it('is to enqueue a task again, under ids that lead back to the first', async () => {
    expect(await change('ended/again')).toEqual([200, { taskId: 'ended-again-1' }])
    expect(await change('ended/again')).toEqual([200, { taskId: 'ended-again-2' }])
    expect(await change('ended-again-1/again')).toEqual([200, { taskId: 'ended-again-3' }])
    const { spec } = await json<TaskView>('tasks/ended-again-3')
    expect(spec).toEqual({ taskId: 'ended-again-3', tenantId: 'acme', run: { script: 'true' } })
    const long = 'a'.repeat(64)
    await producer.enqueue({ taskId: long, run: { script: 'true' } })
    expect(await change(`${long}/again`)).toEqual([200, { taskId: `${'a'.repeat(56)}-again-1` }])
  })
})

describe('no answer', () => {
  it('holds a secret', async () => {
    for (const path of [
      'session',
      'overview',
      'containers',
      'tasks',
      'tasks/running',
      'tasks/ended',
      'tasks/ended/patch',
    ]) {
      const text = await (await get(path)).text()
      expect(text).not.toContain(TOKEN)
      expect(text).not.toContain('plain words')
    }
  })
})

describe('a worker', () => {
  const stateOf = async (id: string) =>
    (await json<Overview>('overview')).workers.find(worker => worker.id === id)?.state

  it('that died is lost, also when the others have forgotten it', async () => {
    await beat(data, names, { id: 'w-dies' }, 1500)
    await eventually(async () => (await stateOf('w-dies')) === 'idle')
    await eventually(async () => (await stateOf('w-dies')) === 'lost')
    await data.srem(names.workers, 'w-dies')
    await eventually(async () => (await stateOf('w-1')) === 'executing')
    expect(await stateOf('w-dies')).toBe('lost')
    await beat(data, names, { id: 'w-dies' })
    await eventually(async () => (await stateOf('w-dies')) === 'idle')
  })

  it('that said goodbye is gone', async () => {
    await beat(data, names, { id: 'w-ends' })
    await eventually(async () => (await stateOf('w-ends')) === 'idle')
    await data.multi().del(names.worker('w-ends')).srem(names.workers, 'w-ends').exec()
    await eventually(async () => (await stateOf('w-ends')) === undefined)
  })

  it('that was lost before the board began is known by its id', async () => {
    await data.sadd(names.workers, 'w-before')
    await eventually(async () => (await stateOf('w-before')) === 'lost')
    await data.srem(names.workers, 'w-before')
    await eventually(async () => (await stateOf('w-before')) === undefined)
  })
})

describe('a Redis that went away', () => {
  it.each(['overview', 'tasks', 'tasks/running', 'containers'])('is said at once at %s', async path => {
    await redis.kill()
    // What was read just before is good for a moment still.
    await eventually(async () => (await get(path)).status === 503)
    expect(await (await get(path)).json()).toEqual({ error: expect.stringMatching(/Redis/) })
    await redis.resume()
    await eventually(async () => (await get(path)).status === 200)
  })

  it('is said when nobody can tell who asks, too', async () => {
    const { cookie } = await visit(board.url)
    await redis.kill()
    const answer = await get('session', { cookie })
    expect([answer.status, await answer.json()]).toEqual([503, { error: expect.stringMatching(/Redis/) }])
    await redis.resume()
    await eventually(async () => (await get('session', { cookie })).status === 200)
  })

  it('and is there but silent, is waited for no longer than some seconds', async () => {
    await data.client('PAUSE', 7000)
    const start = performance.now()
    const answers = await Promise.all(
      ['overview?', 'tasks', 'tasks/running'].map(async path => await get(path)),
    )
    const ms = performance.now() - start
    expect(answers.map(({ status }) => status)).toEqual([503, 503, 503])
    expect(ms).toBeLessThan(6000)
    await eventually(async () => (await get('overview')).status === 200)
  })
})
