import { execFileSync } from 'node:child_process'
import { freemem } from 'node:os'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import type { TestWorker } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

type Attack = Omit<TaskInput, 'taskId'>

let world: World
let worker: TestWorker
beforeAll(async () => {
  world = await createWorld()
  worker = await world.startWorker({ AGIRUNNER_CONCURRENCY: '3', AGIRUNNER_LOG_CEILING: '16Mi' })
})
afterAll(async () => await world.close())

async function run(task: Attack): Promise<TaskResult & { readonly stdout: string }> {
  const taskId = newTaskId('attack')
  await world.producer.enqueue({ limits: { timeout: 30, grace: 1 }, ...task, taskId })
  const result = await world.producer.waitForResult(taskId)
  return { ...result, stdout: (await readLogs(world.producer, taskId)).stdout }
}

/** A task that prints a line with every step of its work. */
let neighbour: string
beforeEach(async () => {
  neighbour = newTaskId('neighbour')
  const script =
    'i=0; while :; do i=$((i+1)); echo $i > /tmp/x && read -r y < /tmp/x && echo "at $y"; sleep 0.1; done'
  await world.producer.enqueue({ taskId: neighbour, run: { script }, limits: { timeout: 120 } })
  await ticks(1)
})

/** Waits until the neighbour has come so much further than it is now. */
async function ticks(more: number): Promise<void> {
  let from: number | null = null
  for await (const { text, at } of world.producer.logs(neighbour, { follow: true })) {
    if (Date.parse(at) < asked) continue
    const now = Number(/at (\d+)\n$/.exec(text)?.[1] ?? 0)
    from ??= now
    if (now >= from + more) return
  }
  throw new Error('the neighbour ended')
}
let asked = 0

/** The neighbour goes on, the worker lives and takes tasks, the machine can start programs and has memory. */
afterEach(async () => {
  asked = Date.now()
  await ticks(2)
  await world.producer.cancel(neighbour)
  expect(await world.producer.waitForResult(neighbour)).toMatchObject({ status: 'canceled' })
  expect((await world.producer.workers()).map(({ id }) => id)).toContain(worker.id)
  expect((await run({ run: { script: 'echo fine' } })).stdout).toBe('fine\n')
  expect(execFileSync('sh', ['-c', 'echo fine'], { encoding: 'utf8' })).toBe('fine\n')
  expect(freemem()).toBeGreaterThan(512 * 1024 ** 2)
})

const perl = (program: string) => ({ command: ['perl', '-e', program] })
const resources = (of: object) => ({ environment: { resources: of } })

describe('processes', () => {
  const bomb = 'my $end = time + 3; while (time < $end) { fork } print qq(over\\n)'
  /** Makes a hundred children, or as many as it may, and ends by what `refused` says when it may not. */
  const hundred = (refused: string) =>
    `my $n = 0; for (1..100) { my $p = fork; ${refused} unless defined $p; if (!$p) { sleep 60; exit } $n++ } print $n`

  it('a fork bomb stays within its limit', async () => {
    const result = await run({
      ...resources({ pids: 40 }),
      run: perl(bomb),
      limits: { timeout: 6, grace: 0 },
    })
    expect(result.usage.pidsPeak).toBe(40)
  })

  it.each([
    [40, 38],
    [200, 100],
  ])(
    'with a limit of %d there are %d children, besides the init and their parent',
    async (pids, children) => {
      const { stdout, usage, failure } = await run({ ...resources({ pids }), run: perl(hundred('last')) })
      expect(failure).toBeNull()
      expect(Number(stdout)).toBe(children)
      expect(usage.pidsPeak).toBe(children + 2)
    },
  )

  it.each([
    [40, 'task.pids_exhausted'],
    [200, null],
  ])('who fails for want of them is told so: with a limit of %d, %p', async (pids, code) => {
    const { failure } = await run({ ...resources({ pids }), run: perl(hundred('exit 9')) })
    expect(failure?.code ?? null).toBe(code)
  })
})

describe('memory', () => {
  const fill = (path: string) =>
    `open F, q(>${path}) or die; my $b = q(x) x 65536; for (1..1600) { print F $b or die } close F or die; print q(done)`
  const kinds: readonly (readonly [string, string])[] = [
    ['of its own', 'my $n = 1e8; my $x = q(x) x $n; print q(done)'],
    ['in /tmp', fill('/tmp/x')],
    ['in /dev/shm', fill('/dev/shm/x')],
    [
      'in a file without a name',
      `my $n = q(m); my $f = syscall 319, $n, 0; die if $f < 0; ${fill('/proc/self/fd/N').replace('q(>/proc/self/fd/N)', 'qq(>/proc/self/fd/$f)')}`,
    ],
  ]

  it.each(kinds)('%s counts, and ends a task that has too much', async (_where, program) => {
    const result = await run({
      ...resources({ memory: '48m', shm: '256m', tmp: '256m' }),
      run: perl(program),
    })
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'task.out_of_memory' },
      exit: { oomKilled: true, signal: null, cause: 'exited' },
      stdout: '',
    })
    expect(result.usage.memoryPeakBytes).toBeGreaterThan(40 * 1024 ** 2)
  })

  it.each(kinds)('%s is there with a higher limit', async (_where, program) => {
    const result = await run({
      ...resources({ memory: '512m', shm: '256m', tmp: '256m' }),
      run: perl(program),
    })
    expect(result).toMatchObject({ status: 'succeeded', exit: { oomKilled: false }, stdout: 'done' })
    expect(result.usage.memoryPeakBytes).toBeGreaterThan(100 * 1e6)
  })

  it.each([
    ['/tmp', '1m', 'full'],
    ['/tmp', '4m', 'done'],
    ['/dev/shm', '1m', 'full'],
    ['/dev/shm', '4m', 'done'],
  ])('%s of %s is bounded by its own size: %s', async (folder, size, expected) => {
    const program = fill(`${folder}/x`)
      .replace('1600', '32')
      .replaceAll('or die', 'or (print(q(full)), exit)')
    const { stdout } = await run({ ...resources({ tmp: size, shm: size }), run: perl(program) })
    expect(stdout).toBe(expected)
  })
})

describe('open files', () => {
  const program =
    'my @f; while (@f < 6000) { open my $f, q(</dev/null) or last; push @f, $f } print scalar @f'

  it('are bounded', async () => {
    const { stdout } = await run({ run: perl(program) })
    expect(Number(stdout)).toBeLessThan(4096)
    expect(Number(stdout)).toBeGreaterThan(4000)
  })

  it('are more in a container without that limit', () => {
    const args = ['run', '--rm', '--network', 'none', '--ulimit', 'nofile=8192', 'agirunner/debian-base:1']
    expect(execFileSync('docker', [...args, 'perl', '-e', program], { encoding: 'utf8' })).toBe('6000')
  })
})

describe('output', () => {
  it.each([
    [64, 'task.log_limit', 'limit'],
    [8, null, 'exited'],
  ])('of %d MiB ends with %p where the operator allows 16', async (mebibytes, code, cause) => {
    const result = await run({
      run: { script: `yes "$(head -c 8000 /dev/zero | tr '\\0' x)" | head -c ${mebibytes * 1024 ** 2}` },
      limits: { logBytes: '1m', timeout: 60 },
    })
    expect([result.failure?.code ?? null, result.exit?.cause]).toEqual([code, cause])
    expect(result.logs?.truncated).toBe(true)
  })
})

describe('the end of a task that does not want to end', () => {
  it.each([
    ['ignores SIGTERM', 'SIGKILL', 137, `trap '' TERM; echo on; while :; do sleep 1; done`],
    ['stops itself and its group', 'SIGKILL', 137, 'echo on; kill -STOP 0'],
    [
      'has children in another session that ignore it',
      'SIGTERM',
      143,
      `setsid sh -c "trap '' TERM; echo on; while :; do sleep 1; done"; wait`,
    ],
  ])('that %s comes in time, by %s', async (_what, signal, code, script) => {
    const result = await run({ run: { script }, limits: { timeout: 1, grace: 1 } })
    expect(result).toMatchObject({
      status: 'timed_out',
      exit: { cause: 'deadline', signal, code },
      stdout: 'on\n',
    })
    expect(result.usage.wallMs).toBeLessThan(10_000)
  })

  it.each([
    ['a script', { script: `trap 'echo Caught SIGTERM; exit 0' TERM; sleep 60` }],
    ['a command', perl('$| = 1; $SIG{TERM} = sub { print qq(Caught SIGTERM\\n); exit 0 }; sleep 60')],
    ['a step', { steps: [{ name: 'one', script: `trap 'echo Caught SIGTERM; exit 0' TERM; sleep 60` }] }],
  ])('is known to %s, which has its time', async (_what, program) => {
    const result = await run({ run: program, limits: { timeout: 1, grace: 10 } })
    expect(result).toMatchObject({
      status: 'timed_out',
      exit: { cause: 'deadline', signal: 'SIGTERM' },
      stdout: 'Caught SIGTERM\n',
    })
  })

  it('is not held up by who has its output', async () => {
    const script = `(setsid perl -e 'fork and exit; $SIG{TERM} = $SIG{HUP} = q(IGNORE); sleep 600' &); echo done`
    const result = await run({ run: { script } })
    expect(result).toMatchObject({ status: 'succeeded', stdout: 'done\n' })
    expect(result.usage.wallMs).toBeLessThan(10_000)
  })
})

describe('the status of a task', () => {
  it.each([0, 1, 125, 126, 127, 137, 143, 255])('%d is told as it is', async code => {
    expect(await run({ run: { script: `exit ${code}` } })).toMatchObject({
      status: code === 0 ? 'succeeded' : 'failed',
      failure: code === 0 ? null : { code: 'task.exit_nonzero' },
      exit: { code, signal: null, oomKilled: false, cause: 'exited' },
    })
  })
})
