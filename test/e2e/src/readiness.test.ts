import {
  eventually,
  type PrivateEngine,
  startPrivateEngine,
  startPrivateRedis,
  type TestWorker,
} from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { ask, scrape } from './observe/scrape.js'
import { createWorld, newTaskId, type World } from './support.js'

const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

interface Ready {
  readonly ready: boolean
  readonly reasons: readonly { readonly check: string; readonly reason: string }[]
}

async function readiness(worker: TestWorker): Promise<{ status: number } & Ready> {
  const { status, body } = await ask(worker, '/readyz')
  return { status, ...(JSON.parse(body) as Ready) }
}

async function becomes(worker: TestWorker, status: 200 | 503, checks: readonly string[]): Promise<void> {
  const seen = async () => {
    const now = await readiness(worker)
    return now.status === status && now.reasons.map(({ check }) => check).join() === checks.join()
  }
  await eventually(seen, {
    what: `/readyz to be ${status} for ${checks.join() || 'nothing'}`,
    within: 20_000,
  })
}

describe('a worker', () => {
  it('is not ready while it drains, and still says so while a task runs', async () => {
    const worker = await world.startWorker()
    await becomes(worker, 200, [])
    const taskId = newTaskId('ready')
    await world.producer.enqueue({
      taskId,
      run: { script: 'echo started; while [ ! -e /tmp/end ]; do sleep 0.1; done' },
    })
    for await (const { text } of world.producer.logs(taskId, { follow: true }))
      if (text.includes('started')) break
    worker.kill('SIGTERM')
    await becomes(worker, 503, ['state'])
    expect((await readiness(worker)).reasons[0]?.reason).toContain('takes no more tasks')
    expect((await ask(worker, '/healthz')).status).toBe(200)
    expect((await scrape(worker)).value('agirunner_worker_draining')).toBe(1)
    await world.producer.cancel(taskId)
    expect((await worker.exited).code).toBe(0)
    await expect(ask(worker, '/healthz')).rejects.toThrow()
  })

  it('is not ready while Redis is away or frozen, and is again when it is back', async () => {
    const redis = await startPrivateRedis()
    const worker = await world.startWorker({ REDIS_URL: redis.url })
    try {
      await becomes(worker, 200, [])
      expect((await scrape(worker)).text).toContain('state="active"')
      await redis.kill()
      await becomes(worker, 503, ['redis'])
      // What is not known is not told: no alert may take the last count for the present one.
      expect((await scrape(worker)).text).not.toContain('state="active"')
      await redis.resume()
      await becomes(worker, 200, [])
      expect((await scrape(worker)).text).toContain('state="active"')
    } finally {
      await worker.stop()
      await redis.stop()
    }
  }, 90_000)

  it('is not ready below its floor of the disk', async () => {
    const worker = await world.startWorker({ AGIRUNNER_DISK_FLOOR: '900Ti' })
    await becomes(worker, 503, ['disk'])
    expect((await readiness(worker)).reasons[0]?.reason).toContain('AGIRUNNER_DISK_FLOOR')
  })
})

describe('a worker whose engine goes away', () => {
  let engine: PrivateEngine
  beforeAll(async () => {
    engine = await startPrivateEngine(IMAGE)
  }, 60_000)
  afterAll(async () => await engine.stop(), 60_000)

  it('is not ready, and is again when it is back', async () => {
    const worker = await world.startWorker({ DOCKER_HOST: engine.host })
    await becomes(worker, 200, [])
    await engine.kill()
    await becomes(worker, 503, ['engine'])
    expect((await readiness(worker)).reasons[0]?.reason).toContain('engine')
    await engine.resume()
    await becomes(worker, 200, [])
  }, 90_000)
})
