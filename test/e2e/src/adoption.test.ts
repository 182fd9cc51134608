import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TaskResult } from '@agirunner/contracts'
import { eventually, expectNoLeaks, type TestWorker } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

let world: World
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

/** Enqueues a task and waits until it has printed `started`. */
async function start(script: string, more: object = {}): Promise<string> {
  const taskId = newTaskId('adopt')
  await world.producer.enqueue({ taskId, run: { script }, ...more })
  await printed(taskId, 'started')
  return taskId
}

async function printed(taskId: string, text: string): Promise<void> {
  for await (const entry of world.producer.logs(taskId, { follow: true }))
    if (entry.text.includes(text)) return
  throw new Error(`${taskId} ended without printing ${text}`)
}

async function died(worker: TestWorker): Promise<void> {
  worker.kill('SIGKILL')
  await worker.exited
}

async function resultOf(taskId: string): Promise<TaskResult> {
  return await world.producer.waitForResult(taskId, { signal: AbortSignal.timeout(60_000) })
}

/** Makes a dead worker's note of a task what it was before the engine had answered that the container runs. */
function unmark(taskId: string): void {
  const slots = join(world.dataDir, 'slots')
  const files = readdirSync(slots).map(slot => join(slots, slot, 'claim.json'))
  const file = files.find(path => readFileSync(path, 'utf8').includes(taskId)) ?? ''
  const [claim = ''] = readFileSync(file, 'utf8').split('\n')
  writeFileSync(file, `${claim}\n`)
}

const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim()
const containerOf = (taskId: string) => docker('ps', '-aq', '--filter', `name=agirunner-${taskId}-`)

/** Lets a task go on that has `WAIT` in its script. */
function tell(taskId: string): void {
  execFileSync('docker', ['exec', containerOf(taskId), 'touch', '/workspace/output/go'])
}
const WAIT = 'while [ ! -e "$AGIRUNNER_OUTPUT/go" ]; do sleep 0.02; done'

describe('a task whose worker is killed with -9', () => {
  it('is gone on with by the next worker of that folder: same container, same attempt, its whole result', async () => {
    const first = await world.startWorker({ AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN: 'first-secret-value' })
    const script = [
      'echo started; echo more >> README.md',
      WAIT,
      'echo "over with $TOKEN"; echo two > new.txt; echo "{\\"a\\":1}" > "$AGIRUNNER_OUTPUT/result.json"; exit 3',
    ].join('\n')
    const taskId = await start(script, {
      workspace: { source: { type: 'git_remote', url: world.repoUrl } },
      environment: { secrets: { TOKEN: { secretRef: 'env:TOKEN', as: 'env' } } },
    })
    const container = containerOf(taskId)
    await died(first)
    // What the task prints is the secret that it was given, whatever the operator has by now.
    const second = await world.startWorker({ AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN: 'another-value' })
    tell(taskId)
    const result = await resultOf(taskId)
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'task.exit_nonzero' },
      exit: { code: 3, cause: 'exited' },
      attempts: [{ attempt: 1, worker: second.id, failure: { code: 'task.exit_nonzero' } }],
      output: { a: 1 },
      changes: {
        files: [
          { path: 'repo/README.md', status: 'modified' },
          { path: 'repo/new.txt', status: 'added' },
        ],
      },
      worker: { id: second.id },
    })
    expect(result.container?.id).toMatch(new RegExp(`^${container}`))
    expect(result.usage.cpuMs).toBeGreaterThan(0)
    expect(result.usage.diskBytes).toBeGreaterThan(0)
    expect((await readLogs(world.producer, taskId)).stdout).toBe('started\nover with ***\n')
    await expectNoLeaks({ dataDir: world.dataDir, labels: { 'agirunner.worker': first.id } })
    const types: string[] = []
    for await (const event of world.producer.events(taskId)) types.push(`${event.type} ${event.phase}`)
    expect(types.filter(type => type === 'attempt.started queued')).toHaveLength(1)
    expect(types.filter(type => type === 'phase.started run')).toHaveLength(1)
  }, 60_000)

  it('is gone on with by another worker of that folder that lives', async () => {
    const first = await world.startWorker()
    const taskId = await start(`echo started; ${WAIT}; echo over`)
    const second = await world.startWorker()
    await died(first)
    await eventually(() => second.log().includes('going on with a task'), { within: 30_000 })
    tell(taskId)
    expect(await resultOf(taskId)).toMatchObject({
      status: 'succeeded',
      attempts: [{ attempt: 1, worker: second.id }],
    })
  }, 60_000)

  it('has ended meanwhile: its own status counts, also when its time is up by now', async () => {
    const first = await world.startWorker()
    // On an engine that is busy with other tests, only one that lives on tells that the engine has not been restarted.
    docker('run', '-d', '--rm', '--network', 'none', IMAGE, 'sleep', '60')
    const taskId = await start(`echo started; ${WAIT}; echo over; exit 7`, { limits: { timeout: 3 } })
    await died(first)
    tell(taskId)
    await eventually(() => docker('inspect', '-f', '{{.State.Status}}', containerOf(taskId)) === 'exited', {
      within: 5000,
    })
    const endedAt = Date.parse(docker('inspect', '-f', '{{.State.FinishedAt}}', containerOf(taskId)))
    await eventually(() => Date.now() > endedAt + 3000, { within: 5000 })
    await world.startWorker()
    expect(await resultOf(taskId)).toMatchObject({
      status: 'failed',
      exit: { code: 7, cause: 'exited' },
      attempts: [{ attempt: 1 }],
    })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('started\nover\n')
  }, 60_000)

  it.each([
    ['', () => undefined],
    [', also where it died before it noted that the task runs', unmark],
  ])(
    'keeps the deadline that it had%s',
    async (_case, afterDeath) => {
      const timeout = 8
      const first = await world.startWorker()
      const taskId = await start('echo started; sleep 600', { limits: { timeout, grace: 0 } })
      const over = Date.now() + timeout * 1000
      await died(first)
      afterDeath(taskId)
      await eventually(() => Date.now() > over, { within: 2 * timeout * 1000 })
      await world.startWorker()
      const result = await resultOf(taskId)
      expect(result).toMatchObject({ status: 'timed_out', exit: { cause: 'deadline' } })
      expect(result.timings.runMs).toBeGreaterThanOrEqual(timeout * 1000)
      let adoptedAt = Number.NaN
      for await (const { at, data } of world.producer.events(taskId))
        if ('adoptedBy' in data) adoptedAt = Date.parse(at)
      // One that began anew would end no sooner than its whole time after the adoption.
      expect(Date.parse(result.finishedAt ?? '') - adoptedAt).toBeLessThan(timeout * 1000)
    },
    60_000,
  )

  it('can be canceled afterwards, and before', async () => {
    const first = await world.startWorker()
    const tasks = [await start('echo started; sleep 600'), await start('echo started; sleep 600')]
    await died(first)
    await world.producer.cancel(tasks[0] ?? '', 'before')
    await world.startWorker()
    await world.producer.cancel(tasks[1] ?? '', 'after')
    for (const taskId of tasks)
      expect(await resultOf(taskId)).toMatchObject({ status: 'canceled', exit: { cause: 'canceled' } })
  }, 60_000)

  it('that died while it read what the task left: all of it is read again', async () => {
    const first = await world.startWorker()
    const taskId = newTaskId('adopt')
    const script =
      'echo said; for n in 1 2 3; do head -c 70000000 /dev/urandom > "$AGIRUNNER_OUTPUT/$n"; done; echo x > new.txt'
    await world.producer.enqueue({ taskId, run: { script } })
    for await (const { type, phase } of world.producer.events(taskId, { follow: true }))
      if (type === 'phase.started' && phase === 'capture') break
    await died(first)
    const second = await world.startWorker()
    const result = await resultOf(taskId)
    expect(result).toMatchObject({
      status: 'succeeded',
      attempts: [{ attempt: 1, worker: second.id }],
      changes: { files: [{ path: 'repo/new.txt', status: 'added' }] },
      logs: { lines: 1 },
    })
    expect(result.artifacts.map(({ path, sizeBytes }) => [path, sizeBytes])).toEqual([
      ['output/1', 70_000_000],
      ['output/2', 70_000_000],
      ['output/3', 70_000_000],
    ])
    expect((await readLogs(world.producer, taskId)).stdout).toBe('said\n')
  }, 90_000)

  it('keeps its way out by the proxy', async () => {
    const first = await world.startWorker()
    const ask = (host: string) =>
      `curl -s -o /dev/null -m 5 -w "%{http_code}\\n" -x "$https_proxy" http://${host}/`
    const script = `echo started; ${WAIT}; ${ask('other.invalid')}; ${ask('listed.invalid')}`
    const taskId = await start(script, {
      environment: { network: { mode: 'allowlist', hosts: ['listed.invalid:80'] } },
    })
    await died(first)
    const second = await world.startWorker()
    await eventually(() => second.log().includes('going on with a task'), { within: 30_000 })
    tell(taskId)
    const result = await resultOf(taskId)
    expect(result).toMatchObject({
      status: 'succeeded',
      egressDenied: [{ host: 'other.invalid', port: 80, count: 1 }],
    })
    // Refused because it is not listed; listed, and not resolved.
    expect((await readLogs(world.producer, taskId)).stdout).toMatch(/^started\n403\n5\d\d\n$/)
    await expectNoLeaks({ dataDir: world.dataDir, labels: { 'agirunner.worker': first.id } })
  }, 90_000)

  it('goes on through any number of workers, and its steps are told once', async () => {
    let worker = await world.startWorker()
    const taskId = newTaskId('adopt')
    await world.producer.enqueue({
      taskId,
      run: {
        steps: [
          { name: 'one', script: 'echo started' },
          { name: 'two', script: WAIT },
          { name: 'three', script: 'echo over' },
        ],
      },
    })
    await printed(taskId, 'started')
    for (let round = 0; round < 3; round += 1) {
      await died(worker)
      worker = await world.startWorker()
    }
    tell(taskId)
    expect(await resultOf(taskId)).toMatchObject({
      status: 'succeeded',
      steps: [
        { name: 'one', exitCode: 0 },
        { name: 'two', exitCode: 0 },
        { name: 'three', exitCode: 0 },
      ],
    })
    const logged = await readLogs(world.producer, taskId)
    expect(logged).toEqual({ stdout: 'started\nover\n', stderr: '', steps: ['one', 'three'] })
  }, 90_000)
})

describe('what can’t be gone on with', () => {
  it('is left alone by a worker of another folder and queue, until one comes that can go on', async () => {
    const first = await world.startWorker()
    const taskId = await start('echo started; sleep 600')
    const container = containerOf(taskId)
    await died(first)
    // Of another folder: it can't go on with the task, and its own first round must leave the container alone.
    await world.startWorker({
      AGIRUNNER_DATA: `${world.dataDir}-other`,
      AGIRUNNER_QUEUE: `${world.queue}-other`,
    })
    expect(docker('inspect', '-f', '{{.State.Running}}', container)).toBe('true')
    const third = await world.startWorker()
    await eventually(() => third.log().includes('going on with a task'), { within: 30_000 })
    await world.producer.cancel(taskId)
    expect(await resultOf(taskId)).toMatchObject({ status: 'canceled', attempts: [{ worker: third.id }] })
  }, 90_000)

  it('is a task whose secret is not to be had any more: it is lost, and nothing of it is told', async () => {
    const first = await world.startWorker({ AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN: 'first-secret-value' })
    const taskId = await start('echo started; sleep 600', {
      environment: { secrets: { TOKEN: { secretRef: 'env:TOKEN', as: 'env' } } },
    })
    const container = containerOf(taskId)
    await died(first)
    await world.startWorker()
    expect(await resultOf(taskId)).toMatchObject({ status: 'failed', failure: { code: 'worker.lost' } })
    expect(docker('ps', '-aq', '--filter', `id=${container}`)).toBe('')
  }, 60_000)
})

describe('100,000 lines of which a worker is killed in the middle', () => {
  const LINES = 100_000
  const line = (number: number) => `${number} ö€𝄞 ${'x'.repeat(number % 23)}\n`
  const SCRIPT = String.raw`perl -CS -e '$| = 0; for my $n (0 .. ${LINES - 1}) { print $n, " \x{f6}\x{20ac}\x{1d11e} ", "x" x ($n % 23), "\n"; if ($n == 50000) { STDOUT->flush(); select(undef, undef, undef, 0.02) while !-e "$ENV{AGIRUNNER_OUTPUT}/go" } }'`

  it('arrive complete, in order and once: by follow, late join, resume, and as the artifact', async () => {
    const expected = Array.from({ length: LINES }, (_, number) => line(number)).join('')
    const first = await world.startWorker()
    const taskId = newTaskId('lines')
    await world.producer.enqueue({ taskId, run: { script: SCRIPT } })
    const followed = follow(taskId)
    // In the middle of reading: killed as soon as a part of it was told.
    await printed(taskId, '1000 ö')
    await died(first)
    await world.startWorker()
    const late = follow(taskId)
    tell(taskId)
    const result = await resultOf(taskId)
    expect(result).toMatchObject({ status: 'succeeded', attempts: [{ attempt: 1 }] })
    const text = await followed
    expect(sum(await late)).toBe(sum(expected))
    expect(sum(text)).toBe(sum(expected))
    expect(sum((await readLogs(world.producer, taskId)).stdout)).toBe(sum(expected))
    expect(sum(readFileSync(fileURLToPath(result.logs?.uri ?? ''), 'utf8'))).toBe(sum(expected))
    expect(result.logs).toMatchObject({ bytes: Buffer.byteLength(expected), lines: LINES, truncated: false })
    const folder = join(fileURLToPath(result.logs?.uri ?? ''), '..')
    expect(readdirSync(folder)).not.toContain('log.index')
  }, 120_000)

  async function follow(taskId: string): Promise<string> {
    let text = ''
    let cursor = 0
    for await (const entry of world.producer.logs(taskId, { follow: true })) {
      expect(entry.seq).toBe(cursor + 1)
      cursor = entry.seq
      text += entry.text
    }
    return text
  }
  const sum = (text: string) =>
    `${Buffer.byteLength(text)} ${createHash('sha256').update(text).digest('hex').slice(0, 12)}`
})
