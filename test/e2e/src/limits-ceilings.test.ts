import type { TaskInput } from '@agirunner/contracts'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.startWorker({
    AGIRUNNER_MAX_PIDS: '50',
    AGIRUNNER_MAX_CPU: '1',
    AGIRUNNER_MAX_TIMEOUT: '600',
    AGIRUNNER_DEFAULT_TIMEOUT: '2',
    AGIRUNNER_DEFAULT_MEMORY: '48m',
  })
})
afterAll(async () => await world.close())

async function run(task: Omit<TaskInput, 'taskId'>) {
  const taskId = newTaskId('ceiling')
  await world.producer.enqueue({ ...task, taskId })
  const result = await world.producer.waitForResult(taskId)
  return { ...result, ...(await readLogs(world.producer, taskId)) }
}

const hog = { command: ['perl', '-e', 'my $n = 1e8; my $x = q(x) x $n; print q(done)'] }

describe('an operator’s ceilings', () => {
  it('refuse a task before anything is made, and name all that is too much', async () => {
    const result = await run({
      environment: { resources: { pids: 51, cpu: 2 } },
      limits: { timeout: 601 },
      run: { script: 'echo never' },
    })
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'spec.forbidden', origin: 'platform', retryable: false },
      container: null,
      stdout: '',
    })
    const named = [
      'resources.cpu is 2, at most 1',
      'resources.pids is 51, at most 50',
      'timeout is 601 s, at most 600 s',
    ]
    for (const text of named) expect(result.failure?.message).toContain(text)
  })

  it('lower what a task does not name', async () => {
    const program =
      'my $n = 0; for (1..99) { my $p = fork; last unless defined $p; if (!$p) { sleep 9; exit } $n++ } print $n'
    expect((await run({ run: { command: ['perl', '-e', program] } })).usage.pidsPeak).toBe(50)
  })
})

describe('an operator’s defaults', () => {
  it('hold for what a task does not name', async () => {
    expect(await run({ run: { script: 'sleep 60' } })).toMatchObject({ failure: { code: 'task.timeout' } })
    expect(await run({ run: hog })).toMatchObject({ failure: { code: 'task.out_of_memory' } })
  })

  it('give way to what it names', async () => {
    const limits = { timeout: 30 }
    const environment = { resources: { memory: '512m' } }
    expect(await run({ run: hog, environment, limits })).toMatchObject({
      status: 'succeeded',
      stdout: 'done',
    })
    const slept = await run({ run: { script: 'sleep 3; echo slept' }, limits })
    expect(slept).toMatchObject({ status: 'succeeded', stdout: 'slept\n' })
  })
})
