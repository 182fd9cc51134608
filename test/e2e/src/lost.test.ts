import { execFileSync } from 'node:child_process'
import { eventually, expectNoLeaks, type PrivateEngine, startPrivateEngine } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
/** Ends with 0 when it is told to end, as a well-behaved service does. */
const GENTLE = `trap 'exit 0' TERM; echo kept > new.txt; echo started; while :; do sleep 0.1; done`

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

async function start(script: string, more: object = {}): Promise<string> {
  const taskId = newTaskId('lost')
  await world.producer.enqueue({ taskId, run: { script }, ...more })
  for await (const { text } of world.producer.logs(taskId, { follow: true }))
    if (text.includes('started')) return taskId
  throw new Error(`${taskId} ended before it started`)
}

const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim()
const CHANGED = { files: [{ path: 'repo/new.txt', status: 'added' }] }

describe('an engine that restarts under a task', () => {
  let engine: PrivateEngine
  beforeAll(async () => {
    engine = await startPrivateEngine(IMAGE)
  }, 60_000)
  afterAll(async () => await engine.stop(), 60_000)

  it('ends it with a status that is not its own: it is lost, and what it did is captured', async () => {
    // What waits for a next task is left in the end.
    const worker = await world.startWorker({ DOCKER_HOST: engine.host, AGIRUNNER_PARK: '0' })
    const taskId = await start(GENTLE)
    const told = () =>
      docker('--host', engine.host, 'ps', '-a', '--filter', `name=${taskId}`, '--format', '{{.Status}}')
    // Its output comes before the engine has noted that it runs; one that dies before that forgets it.
    await eventually(() => told().startsWith('Up'), { within: 10_000 })
    worker.kill('SIGSTOP')
    await engine.kill()
    await engine.resume()
    // The control: while the worker can't look, the engine itself has it as a success.
    expect(told()).toMatch(/^Exited \(0\)/)
    worker.kill('SIGCONT')
    const result = await world.producer.waitForResult(taskId, { signal: AbortSignal.timeout(60_000) })
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'engine.restarted', origin: 'infrastructure', retryable: true },
      exit: { code: null, cause: 'lost', signal: null },
      changes: CHANGED,
    })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('started\n')
    expect(result.usage.cpuMs).toBeGreaterThan(0)
    const next = newTaskId('next')
    await world.producer.enqueue({ taskId: next, run: { script: 'echo fine' } })
    expect(await world.producer.waitForResult(next)).toMatchObject({
      status: 'succeeded',
      worker: { id: worker.id },
    })
    await expectNoLeaks({ dockerHost: engine.host, labels: { 'agirunner.worker': worker.id } })
  }, 90_000)
})

describe('a container that somebody ends through the engine', () => {
  const containerOf = (workerId: string) =>
    docker('ps', '-q', '--filter', `label=agirunner.worker=${workerId}`)

  it.each([
    ['SIGKILL', 137],
    ['SIGTERM', 143],
  ])('by %s is told as killed, for the engine says so', async (signal, code) => {
    const worker = await world.startWorker()
    const taskId = await start('echo kept > new.txt; echo started; sleep 600')
    docker('kill', '--signal', signal, containerOf(worker.id))
    expect(await world.producer.waitForResult(taskId)).toMatchObject({
      status: 'failed',
      failure: { code: 'task.killed', message: expect.stringContaining(signal) },
      exit: { code, signal, cause: 'exited', oomKilled: false },
      changes: CHANGED,
    })
  })

  it('and removes is lost, and what it did is captured', async () => {
    const worker = await world.startWorker()
    const taskId = await start(GENTLE)
    docker('rm', '-f', containerOf(worker.id))
    expect(await world.producer.waitForResult(taskId)).toMatchObject({
      status: 'failed',
      failure: { code: 'engine.restarted' },
      exit: { code: null, cause: 'lost' },
      changes: CHANGED,
    })
    expect(await readLogs(world.producer, taskId)).toMatchObject({ stdout: 'started\n' })
  })

  it('which is not what a task does to itself, nor a status of its own choice', async () => {
    await world.startWorker()
    const results = await Promise.all(
      ['kill -9 $$', 'exit 137', 'exit 143'].map(async script => {
        const taskId = newTaskId('own')
        await world.producer.enqueue({ taskId, run: { script } })
        return await world.producer.waitForResult(taskId)
      }),
    )
    for (const result of results)
      expect(result).toMatchObject({ failure: { code: 'task.exit_nonzero' }, exit: { signal: null } })
  })
})
