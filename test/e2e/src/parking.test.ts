import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { eventually, expectNoLeaks, type TestWorker } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, readLogs, untilParked, type World } from './support.js'

const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
const COMMAND = fileURLToPath(new URL('../../../packages/cli/bin/agirunner.js', import.meta.url))
const SECRET = 'a-secret-for-parked-ones'

let world: World
let worker: TestWorker
beforeEach(async () => {
  world = await createWorld()
})
afterEach(async () => await world.close())

async function begin(env: Record<string, string> = {}): Promise<void> {
  worker = await world.startWorker({ AGIRUNNER_PARK: '2', ...env })
}

async function run(task: Omit<TaskInput, 'taskId'>): Promise<{ result: TaskResult; stdout: string }> {
  const taskId = newTaskId('park')
  await world.producer.enqueue({ ...task, taskId })
  const result = await world.producer.waitForResult(taskId)
  return { result, stdout: (await readLogs(world.producer, taskId)).stdout }
}

/** Runs it twice: in a container of its own, and in one that waited. @returns the second */
async function runParked(task: Omit<TaskInput, 'taskId'>): Promise<{ result: TaskResult; stdout: string }> {
  const first = await run(task)
  expect(first.result.container?.parked).toBe(false)
  await untilParked(world, first.result)
  const second = await run(task)
  expect(second.result.container?.parked).toBe(true)
  expect(second.stdout).toBe(first.stdout)
  expect(second.result.status).toBe(first.result.status)
  return second
}

const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim()
const parkedOf = ({ id }: TestWorker) =>
  docker('ps', '-aq', '--filter', `label=agirunner.worker=${id}`, '--filter', 'name=agirunner-parked-')
    .split('\n')
    .filter(line => line !== '')

describe('a task in a container that waited', () => {
  it('finds its repository, its limits and nothing of another, and has its own name', async () => {
    await begin()
    const script =
      'cat README.md; git log --oneline | wc -l; ls /workspace /tmp "$HOME"; echo more >> README.md; touch /tmp/mine "$HOME/mine"'
    const { result } = await runParked({
      workspace: { source: { type: 'git_remote', url: world.repoUrl, commit: world.repository.head } },
      run: { script },
    })
    expect(result.container?.name).toBe(`agirunner-${result.taskId}-1`)
    expect(result.changes?.files).toMatchObject([{ path: 'repo/README.md', status: 'modified' }])
    expect(result.container?.strategy).toBe('late_overlay')
  })

  it('gets its secrets, by file and by variable, which the engine never saw', async () => {
    await begin({ AGIRUNNER_SECRET_ENV: 'TOKEN', TOKEN: SECRET })
    const { stdout, result } = await runParked({
      environment: { secrets: { TOKEN: { secretRef: 'env:TOKEN', as: 'both' } } },
      run: { script: 'printf %s "$TOKEN" | wc -c; wc -c < /run/secrets/TOKEN; echo "$TOKEN"' },
    })
    expect(stdout).toBe(`${SECRET.length}\n${SECRET.length}\n***\n`)
    await untilParked(world, result)
    const [waiting = ''] = parkedOf(worker)
    expect(docker('inspect', waiting)).not.toContain(SECRET)
  })

  it('runs any command, whatever its length and bytes, and ends as it ends', async () => {
    await begin()
    const bytes = Array.from({ length: 127 }, (_, index) => String.fromCharCode(index + 1)).join('')
    const long = 'x'.repeat(100_000)
    const { stdout } = await runParked({ run: { command: ['printf', '%s', bytes + long] } })
    expect(stdout).toBe(bytes + long)
    expect((await run({ run: { command: ['not-there'] } })).result.exit?.code).toBe(127)
  })

  it('is ended by its deadline, and by a cancel, and what it did is captured', async () => {
    await begin()
    const { result } = await runParked({
      limits: { timeout: 1, grace: 0 },
      run: { script: 'echo x > new.txt; sleep 600' },
    })
    expect(result).toMatchObject({
      status: 'timed_out',
      changes: { files: [{ path: 'repo/new.txt', status: 'added' }] },
    })
  })

  it('has a network of its own, held to its hosts', async () => {
    await begin()
    const { result } = await runParked({
      environment: { network: { mode: 'allowlist', hosts: ['listed.invalid:80'] } },
      run: { script: 'curl -s -o /dev/null -w "%{http_code}\\n" -x "$http_proxy" http://other.invalid/' },
    })
    expect(result.egressDenied).toEqual([{ host: 'other.invalid', port: 80, count: 1 }])
  })

  it('has its own processors and memory, whatever waited had', async () => {
    await begin()
    const script = 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'
    const task = (memory: string) => ({
      environment: { resources: { memory, cpu: 1 } },
      run: { script: `${script}; true` },
    })
    const first = await run(task('128m'))
    await untilParked(world, first.result)
    const more = await run(task('256m'))
    expect(more).toMatchObject({ stdout: `${256 * 2 ** 20}\n`, result: { container: { parked: true } } })
    await untilParked(world, more.result)
    const hungry = { ...task('64m'), run: { script: 'exec tail /dev/zero' } }
    expect((await run(hungry)).result).toMatchObject({
      failure: { code: 'task.out_of_memory' },
      container: { parked: true },
    })
  })

  it('goes on with another worker when its own is killed', async () => {
    await begin()
    const first = await run({ run: { script: 'true' } })
    await untilParked(world, first.result)
    const taskId = newTaskId('park')
    const script =
      'echo started; while [ ! -e "$AGIRUNNER_OUTPUT/go" ]; do sleep 0.05; done; echo x > new.txt'
    await world.producer.enqueue({ taskId, run: { script } })
    for await (const { text } of world.producer.logs(taskId, { follow: true }))
      if (text.includes('started')) break
    const named = () => docker('ps', '-q', '--filter', `name=agirunner-${taskId}-1`)
    const container = await eventually(named, { within: 5000, what: 'the container to have its name' })
    worker.kill('SIGKILL')
    await worker.exited
    await world.startWorker()
    docker('exec', container, 'touch', '/workspace/output/go')
    expect(await world.producer.waitForResult(taskId)).toMatchObject({
      status: 'succeeded',
      attempts: [{ attempt: 1 }],
      changes: { files: [{ path: 'repo/new.txt', status: 'added' }] },
      container: { parked: true },
    })
  }, 60_000)
})

describe('a container that waits', () => {
  it('is of the image that the name stands for, else it is not used', async () => {
    const name = `agirunner-test/moving-${process.pid}:1`
    docker('tag', IMAGE, name)
    try {
      await begin()
      const task = { environment: { image: name }, run: { script: 'echo "$VERSION"' } }
      const first = await run(task)
      await untilParked(world, first.result)
      const id = docker('create', IMAGE, 'true')
      docker('commit', '--change', 'ENV VERSION=two', id, name)
      docker('rm', id)
      const second = await run(task)
      expect(second.stdout).toBe('two\n')
      expect(second.result).toMatchObject({ container: { parked: false }, attempts: [{ attempt: 1 }] })
    } finally {
      docker('rmi', '-f', name)
    }
  })

  it('ends with its worker, and nothing of it is left, also when the worker is killed', async () => {
    await begin()
    const { result } = await run({ run: { script: 'true' } })
    await untilParked(world, result)
    const waiting = parkedOf(worker)
    expect(waiting).toHaveLength(1)
    worker.kill('SIGKILL')
    await worker.exited
    // The control for the reaper: nobody has removed it, it has ended by itself.
    await eventually(() => docker('inspect', '-f', '{{.State.Running}}', waiting[0] ?? '') === 'false')
    const next = await world.startWorker()
    await expectNoLeaks({ dataDir: world.dataDir, labels: { 'agirunner.worker': worker.id } })
    await next.stop()
  }, 60_000)

  it('goes when the worker is drained, and is never more than the operator allows', async () => {
    await begin()
    const shapes = ['64m', '65m', '66m', '67m']
    for (const memory of shapes) {
      const { result } = await run({ environment: { resources: { memory } }, run: { script: 'true' } })
      await untilParked(world, result)
    }
    expect(parkedOf(worker)).toHaveLength(2)
    await worker.stop()
    expect(parkedOf(worker)).toEqual([])
  }, 60_000)

  it('is shown by ps as parked until a task has it, and counted by doctor', async () => {
    await begin()
    const { result } = await runParked({ run: { script: 'true' } })
    await untilParked(world, result)
    const env = { ...process.env, REDIS_URL: world.redis.url, AGIRUNNER_QUEUE: world.queue }
    const agirunner = (...args: string[]) =>
      execFileSync(process.execPath, [COMMAND, ...args], { env, encoding: 'utf8' })
    const mine = () =>
      agirunner('ps', '--json')
        .trim()
        .split('\n')
        .map(line => JSON.parse(line) as { worker: string; kind: string; taskId: string | null })
        .filter(row => row.worker === worker.id)
    expect(mine()).toMatchObject([{ kind: 'parked', taskId: null }])
    expect(agirunner('doctor')).toContain('1 parked (50 % of 2 tasks found one)')
    const taskId = newTaskId('park')
    await world.producer.enqueue({ taskId, run: { script: 'echo up; sleep 100' } })
    for await (const { text } of world.producer.logs(taskId, { follow: true })) if (text.includes('up')) break
    const own = () => mine().filter(row => row.taskId === taskId)
    expect(
      await eventually(() => own()[0], { within: 5000, what: 'the container to have its name' }),
    ).toMatchObject({
      kind: 'task',
    })
    await world.producer.cancel(taskId)
    expect((await world.producer.waitForResult(taskId)).container?.parked).toBe(true)
  })

  it('is there by default, and not at all where the operator says so', async () => {
    await begin({ AGIRUNNER_PARK: '0' })
    await run({ run: { script: 'true' } })
    expect((await run({ run: { script: 'true' } })).result.container?.parked).toBe(false)
    const [record] = await world.producer.workers()
    expect(record?.capabilities).toContainEqual(
      expect.objectContaining({
        name: 'parking',
        state: 'missing',
        detail: 'switched off by AGIRUNNER_PARK',
      }),
    )
  })
})
