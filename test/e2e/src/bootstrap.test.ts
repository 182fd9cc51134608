import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { eventually } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, killForGood, newTaskId, readLogs, type World } from './support.js'

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

type More = Omit<TaskInput, 'taskId' | 'run' | 'environment'>

async function enqueue(bootstrap: string[], script: string, more: More = {}): Promise<string> {
  const taskId = newTaskId('boot')
  await world.producer.enqueue({ taskId, environment: { bootstrap }, run: { script }, ...more })
  return taskId
}

async function run(...args: Parameters<typeof enqueue>): Promise<TaskResult> {
  return await world.producer.waitForResult(await enqueue(...args))
}

async function printed(taskId: string, text: string): Promise<void> {
  let seen = ''
  for await (const entry of world.producer.logs(taskId, { follow: true })) {
    seen += entry.text
    if (seen.includes(text)) return
  }
  throw new Error(`${taskId} ended without printing ${text}; it printed ${seen}`)
}

/** The phases as the events tell them, each with its task's own log beside it. */
async function phasesOf(taskId: string): Promise<string[]> {
  const phases: string[] = []
  for await (const { type, phase } of world.producer.events(taskId)) {
    if (type === 'phase.started' || type === 'phase.finished')
      phases.push(`${phase} ${type.slice('phase.'.length)}`)
  }
  return phases
}

describe.each(['overlay_volume', 'archive'])('a bootstrap with strategy %s', strategy => {
  it('has a phase and a time of its own, and the task has its own', async () => {
    await world.startWorker({ AGIRUNNER_STRATEGY: strategy })
    const taskId = await enqueue(['sleep 1.2', 'sleep 0.3'], 'sleep 0.5')
    const { status, timings, usage } = await world.producer.waitForResult(taskId)
    expect(status).toBe('succeeded')
    expect(timings.bootstrapMs).toBeGreaterThanOrEqual(1400)
    expect(timings.runMs).toBeGreaterThanOrEqual(400)
    expect(timings.runMs).toBeLessThan(timings.bootstrapMs ?? 0)
    expect(usage?.wallMs).toBe(timings.runMs)
    const phases = await phasesOf(taskId)
    expect(phases.slice(phases.indexOf('start started'))).toEqual([
      'start started',
      'start finished',
      'bootstrap started',
      'bootstrap finished',
      'run started',
      'run finished',
      'capture started',
      'capture finished',
      'report started',
      'report finished',
    ])
  }, 60_000)

  it('that is canceled does not go on to the task', async () => {
    await world.startWorker({ AGIRUNNER_STRATEGY: strategy })
    const taskId = await enqueue(["trap 'exit 0' TERM; echo waiting; sleep 600 & wait"], 'echo never')
    await printed(taskId, 'waiting')
    await world.producer.cancel(taskId, 'enough')
    expect(await world.producer.waitForResult(taskId)).toMatchObject({
      status: 'canceled',
      failure: { code: 'task.canceled', phase: 'bootstrap' },
      exit: { cause: 'canceled', signal: 'SIGTERM' },
      timings: { runMs: null },
    })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('waiting\n')
  }, 60_000)

  it('that ignores the end of its time is killed', async () => {
    await world.startWorker({ AGIRUNNER_STRATEGY: strategy, AGIRUNNER_BOOTSTRAP_SECONDS: '1' })
    const script = "trap '' TERM; while :; do sleep 0.1; done"
    expect(await run([script], 'echo never', { limits: { grace: 1 } })).toMatchObject({
      status: 'failed',
      failure: {
        code: 'environment.bootstrap_failed',
        phase: 'bootstrap',
        message: expect.stringContaining('was not done when the time'),
      },
      exit: { cause: 'deadline', signal: 'SIGKILL', code: 137 },
    })
  }, 60_000)
})

describe('a bootstrap', () => {
  it('leaves what it starts to the task', async () => {
    await world.startWorker()
    const taskId = await enqueue(
      ['(while :; do sleep 0.1; done) & echo $! >/tmp/pid', 'cd /tmp; EXPORTED=1; export EXPORTED'],
      'kill -0 "$(cat /tmp/pid)" && echo alive; pwd; echo "[$EXPORTED]"',
    )
    expect(await world.producer.waitForResult(taskId)).toMatchObject({ status: 'succeeded' })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('alive\n/workspace/repo\n[]\n')
  }, 60_000)

  it('gains no time by saying that it is over', async () => {
    await world.startWorker({ AGIRUNNER_BOOTSTRAP_SECONDS: '2' })
    const limits = { timeout: 1, grace: 0 }
    // The control: without the lie it has the operator's two seconds.
    const honest = await run(['sleep 600'], 'true', { limits })
    expect(honest.failure?.code).toBe('environment.bootstrap_failed')
    const lie = 'echo "b 1 0 0 1.00" >>/run/agirunner/log/s; sleep 600'
    const lying = await run([lie], 'true', { limits })
    expect(lying).toMatchObject({ status: 'timed_out', failure: { code: 'task.timeout' } })
    expect((lying.timings.bootstrapMs ?? 0) + (lying.timings.runMs ?? 0)).toBeLessThan(3000)
  }, 60_000)

  it('gains no time by hiding that it is over', async () => {
    await world.startWorker({ AGIRUNNER_BOOTSTRAP_SECONDS: '2' })
    const hide = 'rm -f /run/agirunner/log/s; mkdir /run/agirunner/log/s || true; echo hidden'
    const started = Date.now()
    const result = await run([hide], 'sleep 600', { limits: { timeout: 3, grace: 0 } })
    expect(result.exit?.cause).toBe('deadline')
    expect(Date.now() - started).toBeLessThan(20_000)
  }, 60_000)

  it('counts as a try of the task when its worker dies in it', async () => {
    const first = await world.startWorker()
    const taskId = await enqueue(
      ['echo "try $AGIRUNNER_ATTEMPT"; [ "$AGIRUNNER_ATTEMPT" != 1 ] || sleep 600'],
      'true',
    )
    await printed(taskId, 'try 1')
    await killForGood(first, world.dataDir)
    await world.startWorker()
    const result = await world.producer.waitForResult(taskId, { signal: AbortSignal.timeout(60_000) })
    expect(result).toMatchObject({ status: 'failed', failure: { code: 'worker.lost' } })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('try 1\n')
  }, 120_000)

  it('that fails is tried again when the task says so', async () => {
    await world.startWorker()
    const result = await run(['[ "$AGIRUNNER_ATTEMPT" = 2 ]'], 'true', {
      retry: { maxAttempts: 2, backoff: { delay: 0 }, on: ['environment.bootstrap_failed'] },
    })
    expect(result).toMatchObject({
      status: 'succeeded',
      attempts: [{ failure: { code: 'environment.bootstrap_failed' } }, { failure: null }],
    })
  }, 60_000)

  it('is told line by line as it goes', async () => {
    await world.startWorker()
    const taskId = await enqueue(['echo one; sleep 600'], 'true')
    await printed(taskId, 'one')
    await eventually(async () => (await phasesOf(taskId)).includes('bootstrap started'), {
      what: 'the phase',
    })
    await world.producer.cancel(taskId, 'seen')
    await world.producer.waitForResult(taskId)
    const steps: (string | null)[] = []
    for await (const { step } of world.producer.logs(taskId)) steps.push(step)
    expect([...new Set(steps)]).toEqual(['bootstrap 1'])
  }, 60_000)
})
