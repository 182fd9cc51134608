import { setTimeout as sleep } from 'node:timers/promises'
import { type EndedTask, type LiveContainer, redisNames, type TaskInput } from '@agirunner/contracts'
import { eventually } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { createWorld, newTaskId, untilParked, type World } from './support.js'

const SECRET = 'the-secret-of-a-living-task'

let world: World
let redis: Redis
beforeEach(async () => {
  world = await createWorld()
  redis = new Redis(world.redis.url)
})
afterEach(async () => {
  redis.disconnect()
  await world.close()
})

async function enqueue(task: Omit<TaskInput, 'taskId'>): Promise<string> {
  const taskId = newTaskId('live')
  await world.producer.enqueue({ ...task, taskId })
  return taskId
}

/** Looks until it is as wanted. @returns that state, and how long it took in milliseconds */
async function watchUntil(
  wanted: (containers: LiveContainer[]) => boolean,
  within = 20_000,
): Promise<{ containers: LiveContainer[]; tookMs: number }> {
  const since = Date.now()
  let last: LiveContainer[] = []
  try {
    for await (const containers of world.producer.watchContainers({ signal: AbortSignal.timeout(within) })) {
      last = containers
      if (wanted(containers)) break
    }
  } catch (error) {
    throw new Error(`it never was as wanted; at last it was ${JSON.stringify(last)}`, { cause: error })
  }
  return { containers: last, tookMs: Date.now() - since }
}

const isBusy = (one: LiveContainer | undefined) =>
  (one?.cpu.used ?? 0) > 0.3 && one?.lastOutput !== null && one?.distro !== null
const of = (taskId: string, containers: LiveContainer[]) => containers.find(one => one.taskId === taskId)

/** Whether a worker tells of its containers while `work` is under way: what it writes stays for some seconds. */
async function isToldDuring(worker: string, work: Promise<unknown>): Promise<boolean> {
  let isOver = false
  const over = work.finally(() => {
    isOver = true
  })
  let isTold = false
  while (!isOver) {
    const isThere = (await redis.exists(redisNames(world.queue).containers(worker))) === 1
    isTold ||= isThere
    await sleep(50)
  }
  await over
  return isTold
}

const runFor = async (script: string) =>
  await world.producer.waitForResult(await enqueue({ run: { script } }))

describe('the containers of a worker', () => {
  it('are told within two seconds, with what they use, and go with their tasks', async () => {
    const worker = await world.startWorker({ TOKEN: SECRET, AGIRUNNER_SECRET_ENV: 'TOKEN' })
    const watching = world.producer.watchContainers()
    await watching.next()
    const since = Date.now()
    const taskId = await enqueue({
      tenantId: 'acme',
      labels: { role: 'builder' },
      environment: {
        secrets: { TOKEN: { secretRef: 'env:TOKEN', as: 'env' } },
        resources: { cpu: 1, memory: '256Mi', pids: 64 },
      },
      // With the secret, and once more so that it is one only without what a terminal does not show.
      run: {
        script: `echo; printf "\\033[1mon\\033[0m: $TOKEN \${TOKEN%%-*}\\033[0m-\${TOKEN#*-}."; while :; do :; done`,
      },
      limits: { grace: 0 },
    })
    for await (const containers of watching) if (of(taskId, containers)?.status === 'running') break
    expect(Date.now() - since).toBeLessThan(2000 + 3000)
    const { containers } = await watchUntil(all => isBusy(of(taskId, all)))
    expect(of(taskId, containers)).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{64}$/),
      name: `agirunner-${taskId}-1`,
      kind: 'task',
      status: 'running',
      taskId,
      attempt: 1,
      tenantId: 'acme',
      labels: { role: 'builder' },
      image: expect.any(String),
      imageDigest: expect.any(String),
      distro: expect.stringContaining('Debian'),
      cpu: { used: expect.any(Number), limit: 1 },
      memory: { used: expect.any(Number), limit: 256 * 2 ** 20 },
      pids: { used: expect.any(Number), limit: 64 },
      network: 'none',
      startedAt: expect.stringMatching(/^\d{4}-/),
      lastOutput: { at: expect.stringMatching(/^\d{4}-/), text: expect.stringMatching(/^on: \S+ \S+\.$/) },
      worker: worker.id,
    })
    const hex = Buffer.from(SECRET).toString('hex')
    expect(JSON.stringify(containers)).not.toMatch(new RegExp(`${SECRET}|${hex}`))
    await world.producer.cancel(taskId)
    await watchUntil(all => of(taskId, all) === undefined)
    expect((await world.producer.waitForResult(taskId)).status).toBe('canceled')
  })

  it('cost nothing while nobody looks', async () => {
    const { id } = await world.startWorker()
    expect(await isToldDuring(id, runFor('sleep 0.5'))).toBe(false)
    await redis.publish(redisNames(world.queue).lookChannel, '')
    expect(await isToldDuring(id, runFor('sleep 0.5'))).toBe(true)
  })

  it('are those that wait for tasks too, and those that they become', async () => {
    await world.startWorker({ AGIRUNNER_PARK: '1' })
    await untilParked(world, await runFor('true'))
    const { containers } = await watchUntil(all => all.some(({ kind }) => kind === 'parked'))
    const parked = containers.find(({ kind }) => kind === 'parked')
    expect(parked).toMatchObject({ status: 'running', taskId: null, labels: {}, lastOutput: null })
    expect(parked?.memory.used).toBeGreaterThan(0)
    expect(parked?.pids.used).toBeGreaterThan(0)
    const taskId = await enqueue({ run: { script: 'echo here; while :; do :; done' }, limits: { grace: 0 } })
    const later = await watchUntil(all => isBusy(of(taskId, all)))
    expect(of(taskId, later.containers)).toMatchObject({
      id: parked?.id,
      kind: 'task',
      name: `agirunner-${taskId}-1`,
      lastOutput: { text: 'here' },
    })
    await world.producer.cancel(taskId)
    await world.producer.waitForResult(taskId)
  })
})

describe('what has ended', () => {
  it('is counted once, by status and code, and listed', async () => {
    await world.startWorker({ AGIRUNNER_CONCURRENCY: '1' })
    await runFor('true')
    await runFor('exit 3')
    const busy = await enqueue({ run: { script: 'sleep 600' }, limits: { grace: 0 } })
    await eventually(async () => (await world.producer.workers())[0]?.running.includes(busy) ?? false, {
      within: 20_000,
    })
    const waiting = await enqueue({ run: { script: 'true' } })
    await world.producer.cancel(waiting)
    await world.producer.waitForResult(waiting)
    await world.producer.cancel(busy)
    await world.producer.waitForResult(busy)

    const minutes = await world.producer.activity(5)
    expect(minutes).toHaveLength(5)
    const sum = (pick: (minute: (typeof minutes)[number]) => number | undefined) =>
      minutes.reduce((total, minute) => total + (pick(minute) ?? 0), 0)
    expect({
      succeeded: sum(({ statuses }) => statuses.succeeded),
      failed: sum(({ statuses }) => statuses.failed),
      canceled: sum(({ statuses }) => statuses.canceled),
      nonzero: sum(({ failures }) => failures['task.exit_nonzero']),
      canceledCode: sum(({ failures }) => failures['task.canceled']),
    }).toEqual({ succeeded: 1, failed: 1, canceled: 2, nonzero: 1, canceledCode: 2 })
    expect(sum(({ runMs }) => runMs)).toBeGreaterThan(0)
    const recent = await world.producer.recent()
    expect(recent.map(({ status, code }: EndedTask) => [status, code])).toEqual([
      ['canceled', 'task.canceled'],
      ['canceled', 'task.canceled'],
      ['failed', 'task.exit_nonzero'],
      ['succeeded', null],
    ])
    expect(recent.slice(0, 2).map(({ taskId }) => taskId)).toEqual([busy, waiting])
    expect((await world.producer.recent(1)).length).toBe(1)
  })
})
