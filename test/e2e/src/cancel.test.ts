import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import type { TaskEvent, TaskResult } from '@agirunner/contracts'
import { connectEngine, eventually, type HostileGit, serveHostileGit } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { EngineGate } from './engine-gate.js'
import { createWorld, newTaskId, type World } from './support.js'

/** What a cancel may take beyond the grace, in milliseconds. */
const PROMPT_MS = 2000

let world: World
let gate: EngineGate | null = null
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => {
  // The worker needs its engine until it has ended.
  gate?.letGo()
  await world.close()
  await gate?.close()
  gate = null
})

/** Waits for an event of a task. */
async function happened(taskId: string, is: (event: TaskEvent) => boolean): Promise<void> {
  for await (const event of world.producer.events(taskId, { follow: true })) if (is(event)) return
  throw new Error(`${taskId} ended first`)
}

const entered = (phase: string) => (event: TaskEvent) =>
  event.type === 'phase.started' && event.phase === phase

/** Containers of a task that the engine still knows, in any state. */
async function containersOf(taskId: string): Promise<string[]> {
  const listed = await connectEngine().listContainers({
    all: true,
    filters: { name: [`^/agirunner-${taskId}-`] },
  })
  return listed.map(container => `${container.Names[0]} ${container.State}`)
}

/** Cancels, and looks at once whether that is true in every respect. */
async function cancel(taskId: string, { graceMs = 0, afterAsking = () => {} } = {}): Promise<TaskResult> {
  const asked = performance.now()
  expect(await world.producer.cancel(taskId, 'changed my mind')).toBe('requested')
  afterAsking()
  const result = await world.producer.waitForResult(taskId)
  const took = performance.now() - asked
  expect(await containersOf(taskId)).toEqual([])
  expect(took).toBeLessThan(PROMPT_MS + graceMs)
  expect(result).toMatchObject({
    status: 'canceled',
    failure: { code: 'task.canceled', message: expect.stringContaining('changed my mind') },
  })
  const events: TaskEvent[] = []
  for await (const event of world.producer.events(taskId)) events.push(event)
  expect(events.filter(event => event.type === 'task.finished')).toHaveLength(1)
  expect(await world.producer.cancel(taskId)).toBe('finished')
  return result
}

describe('a cancel, told within two seconds and the grace, once, with the container gone', () => {
  it('of a task that waits for a worker', async () => {
    await world.startWorker({ AGIRUNNER_CONCURRENCY: '1' })
    const [busy, taskId] = [newTaskId(), newTaskId()]
    await world.producer.enqueue({ taskId: busy, run: { script: 'sleep 600' }, limits: { grace: 0 } })
    await happened(busy, entered('run'))
    await world.producer.enqueue({ taskId, run: { script: 'true' } })
    expect((await cancel(taskId)).failure?.phase).toBe('queued')
    await cancel(busy)
  })

  it('of a task whose time has not come', async () => {
    await world.startWorker()
    const taskId = newTaskId()
    const notBefore = new Date(Date.now() + 3600_000).toISOString()
    await world.producer.enqueue({ taskId, notBefore, run: { script: 'true' } })
    // Its job is let go at once, and a worker may have begun with it when it hears of the cancel.
    expect(['queued', 'workspace']).toContain((await cancel(taskId)).failure?.phase)
  })

  it('of a task that waits to be tried again', async () => {
    await world.startWorker()
    const taskId = newTaskId()
    await world.producer.enqueue({
      taskId,
      run: { script: 'exit 3' },
      retry: { maxAttempts: 2, on: ['task'], backoff: { type: 'fixed', delay: 600 } },
    })
    await happened(taskId, event => event.type === 'attempt.finished')
    const result = await cancel(taskId)
    expect(result.attempts).toMatchObject([{ attempt: 1, failure: { code: 'task.exit_nonzero' } }])
  })

  describe('of a workspace', () => {
    let hostile: HostileGit
    beforeEach(async () => {
      hostile = await serveHostileGit()
    })
    afterEach(async () => await hostile.close())

    it.each([
      ['resolved', 'stalled-refs'],
      ['cloned', 'stalled-pack'],
    ] as const)('that is being %s', async (_doing, kind) => {
      await world.startWorker()
      const taskId = newTaskId()
      const url = hostile.at(kind)
      await world.producer.enqueue({
        taskId,
        workspace: { source: { type: 'git_remote', url } },
        run: { script: 'true' },
      })
      const path = new URL(url).pathname
      const wanted = kind === 'stalled-pack' ? 2 : 1
      await eventually(() => hostile.asked.filter(one => one.url.startsWith(path)).length >= wanted)
      expect((await cancel(taskId)).failure?.phase).toBe('workspace')
    })
  })

  it('of an image that is being pulled', async () => {
    const open = new Set<Socket>()
    const mute = createServer(socket => void open.add(socket.on('error', () => undefined)))
    mute.listen(0, '127.0.0.1')
    await once(mute, 'listening')
    try {
      await world.startWorker()
      const taskId = newTaskId()
      const image = `127.0.0.1:${(mute.address() as AddressInfo).port}/absent:1`
      await world.producer.enqueue({ taskId, environment: { image }, run: { script: 'true' } })
      await happened(taskId, entered('image'))
      expect((await cancel(taskId)).failure?.phase).toBe('image')
    } finally {
      mute.close()
      for (const socket of open) socket.destroy()
    }
  })

  it.each([
    ['created', 'create', /^POST \S*\/containers\/create\?name=agirunner-t-/],
    ['started', 'start', /^POST \S*\/start /],
  ] as const)('of a container that is being %s', async (_doing, phase, hold) => {
    gate = await EngineGate.start(hold)
    await world.startWorker({ DOCKER_HOST: gate.host, AGIRUNNER_STRATEGY: 'copy' })
    gate.hold()
    const taskId = newTaskId()
    await world.producer.enqueue({ taskId, run: { script: 'sleep 600' }, limits: { grace: 0 } })
    await gate.reached
    const result = await cancel(taskId, { afterAsking: () => gate?.letGo() })
    expect(['run', phase]).toContain(result.failure?.phase)
  })

  it('of a running task that takes all of its grace', async () => {
    await world.startWorker()
    const taskId = newTaskId()
    const script = `trap 'echo Caught SIGTERM' TERM; while :; do sleep 0.1; done`
    await world.producer.enqueue({ taskId, run: { script }, limits: { grace: 1 } })
    await happened(taskId, entered('run'))
    const result = await cancel(taskId, { graceMs: 1000 })
    expect(result.exit).toMatchObject({ cause: 'canceled', signal: 'SIGKILL' })
  })

  it('of a task whose changes are being read', async () => {
    gate = await EngineGate.start(/^GET \S*\/archive\?\S*(repo|output)/)
    await world.startWorker({ DOCKER_HOST: gate.host, AGIRUNNER_STRATEGY: 'archive' })
    gate.hold()
    const taskId = newTaskId()
    await world.producer.enqueue({ taskId, run: { script: 'echo x > new.txt' } })
    await gate.reached
    const result = await cancel(taskId)
    expect(result).toMatchObject({ failure: { phase: 'capture' }, changes: null })
  })
})

describe('the deadline of waiting', () => {
  it('is told when it passes, though no worker is free', async () => {
    await world.startWorker({ AGIRUNNER_CONCURRENCY: '1' })
    const [busy, taskId] = [newTaskId(), newTaskId()]
    await world.producer.enqueue({ taskId: busy, run: { script: 'sleep 600' }, limits: { grace: 0 } })
    await happened(busy, entered('run'))
    await world.producer.enqueue({ taskId, run: { script: 'true' }, limits: { queue: 1 } })
    const result = await world.producer.waitForResult(taskId, { signal: AbortSignal.timeout(20_000) })
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'task.expired', phase: 'queued', origin: 'platform' },
      attempts: [],
    })
    await cancel(busy)
  })
})
