import { existsSync, readdirSync } from 'node:fs'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { eventually, type TestWorker } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createWorld, killForGood, newTaskId, readLogs, type World } from './support.js'

let world: World
let worker: TestWorker
beforeAll(async () => {
  world = await createWorld()
  // What waits for a next task has a group too.
  worker = await world.startWorker({ AGIRUNNER_PARK: '0' })
})
afterAll(async () => await world.close())

async function run(task: Omit<TaskInput, 'taskId'>): Promise<TaskResult> {
  const taskId = newTaskId('use')
  await world.producer.enqueue({ ...task, taskId })
  return await world.producer.waitForResult(taskId)
}

const MIB = 1024 ** 2
/** Uses so much CPU time, however long that takes. */
const burn = (seconds: number) =>
  `my $x = 0; while ((times)[0] + (times)[1] < ${seconds}) { $x++ for 1..10000 }`
/** The count is a variable, because perl would work a constant out before it begins. */
const hold = (bytes: number) => `my $n = ${bytes}; my $m = "x" x $n;`
/** The folders of a worker's control groups, wherever they are mounted. */
function groupsOf(id: string): string[] {
  const tops = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map(name => `/sys/fs/cgroup/${name}`)]
  return tops
    .map(top => `${top}/agirunner`)
    .filter(top => existsSync(top))
    .flatMap(top => readdirSync(top).map(name => `${top}/${name}`))
    .filter(folder => folder.includes(id.replaceAll('-', '_')))
}

describe('the usage of a task', () => {
  it('is what it used, and nothing of the network where it has none', async () => {
    const script = `perl -e '${burn(1)} ${hold(100 * MIB)}'; sleep 0.1 & sleep 0.1 & sleep 0.1 & wait`
    const { usage } = await run({ run: { script } })
    expect(usage.cpuMs).toBeGreaterThan(1000)
    expect(usage.cpuMs).toBeLessThan(3000)
    expect(usage.wallMs).toBeGreaterThanOrEqual(1000)
    expect(usage.memoryPeakBytes).toBeGreaterThan(100 * MIB)
    expect(usage.memoryPeakBytes).toBeLessThan(300 * MIB)
    // The init, the shell and three sleepers.
    expect(usage.pidsPeak).toBeGreaterThanOrEqual(5)
    expect(usage.pidsPeak).toBeLessThan(10)
    expect(usage).toMatchObject({ networkRxBytes: 0, networkTxBytes: 0 })
  })

  it('has what was sent just before the end', async () => {
    // An address for documentation: whether anything answers or even lets it pass is of no matter.
    const send = [
      'use Socket; socket(S, PF_INET, SOCK_DGRAM, 17) or die $!;',
      'my $to = pack_sockaddr_in(9, inet_aton(q(192.0.2.1)));',
      'for (1..1000) { send(S, q(x) x 1000, 0, $to) } select undef, undef, undef, 0.3',
    ]
    const network = { mode: 'open' as const }
    const { usage, failure } = await run({
      environment: { network },
      run: { command: ['perl', '-e', send.join(' ')] },
    })
    expect(failure).toBeNull()
    expect(usage.networkTxBytes).toBeGreaterThan(1_000_000)
    expect(usage.networkTxBytes).toBeLessThan(1_200_000)
    expect(usage.networkRxBytes).toEqual(expect.any(Number))
  })

  it.each<[string, Omit<TaskInput, 'taskId'>, string]>([
    ['failed', { run: { script: `perl -e '${burn(0.2)}'; exit 3` } }, 'task.exit_nonzero'],
    [
      'was out of memory',
      {
        environment: { resources: { memory: '64m' } },
        run: { command: ['perl', '-e', burn(0.2) + hold(200 * MIB)] },
      },
      'task.out_of_memory',
    ],
    [
      'came to its deadline',
      { run: { script: `perl -e '${burn(0.2)}'; sleep 60` }, limits: { timeout: 2 } },
      'task.timeout',
    ],
    [
      'was idle',
      { run: { script: `perl -e '${burn(0.2)}'; sleep 60` }, limits: { idleTimeout: 1.5 } },
      'task.idle_timeout',
    ],
  ])('is told of one that %s', async (_what, task, code) => {
    const { usage, failure } = await run(task)
    expect(failure?.code).toBe(code)
    expect(usage.cpuMs).toBeGreaterThanOrEqual(200)
    expect(usage.memoryPeakBytes).toBeGreaterThan(MIB)
    expect(usage.pidsPeak).toBeGreaterThan(1)
  })

  it('is told of one that was canceled', async () => {
    const taskId = newTaskId('use')
    await world.producer.enqueue({ taskId, run: { script: `perl -e '${burn(0.2)}'; echo burnt; sleep 60` } })
    for await (const { text } of world.producer.logs(taskId, { follow: true }))
      if (text.includes('burnt')) break
    await world.producer.cancel(taskId)
    const { status, usage } = await world.producer.waitForResult(taskId)
    expect(status).toBe('canceled')
    expect(usage.cpuMs).toBeGreaterThanOrEqual(200)
  })

  it('is null of one that never ran', async () => {
    const { usage } = await run({
      environment: { image: 'no/such:1', pullPolicy: 'never' },
      run: { script: 'true' },
    })
    expect(new Set(Object.values(usage))).toEqual(new Set([null]))
  })
})

describe('a share of the CPU', () => {
  /** Processes that spin until the deadline, and the count of periods in which they were held back. */
  const spin = (processes: number) =>
    [
      "trap 'cat /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu/cpu.stat 2>/dev/null; exit 0' TERM",
      `i=0; while [ $i -lt ${processes} ]; do perl -e "1 while 1" & i=$((i+1)); done; wait`,
    ].join('\n')
  const spinning = async (cpu: number, processes: number) => {
    const taskId = newTaskId('cpu')
    const environment = { resources: { cpu } }
    const limits = { timeout: 4, grace: 5 }
    await world.producer.enqueue({ taskId, environment, limits, run: { script: spin(processes) } })
    const { usage } = await world.producer.waitForResult(taskId)
    const throttled = /nr_throttled (\d+)/.exec((await readLogs(world.producer, taskId)).stdout)?.[1]
    return { share: (usage.cpuMs ?? 0) / (usage.wallMs ?? 1), throttled: Number(throttled) }
  }

  it('holds, whatever a task starts', async () => {
    const { share, throttled } = await spinning(0.5, 8)
    expect(throttled).toBeGreaterThan(0)
    expect(share).toBeLessThan(0.6)
    expect(share).toBeGreaterThan(0)
  })

  it('holds back nobody below it', async () => {
    expect(await spinning(2, 1)).toMatchObject({ throttled: 0 })
  })

  it('leaves a neighbour its own', async () => {
    const spinner = newTaskId('cpu')
    await world.producer.enqueue({
      taskId: spinner,
      run: { script: `echo on\n${spin(8)}` },
      limits: { timeout: 60 },
    })
    for await (const { text } of world.producer.logs(spinner, { follow: true }))
      if (text.includes('on')) break
    const neighbour = await run({ run: { command: ['perl', '-e', burn(1)] }, limits: { timeout: 30 } })
    expect(neighbour).toMatchObject({ status: 'succeeded' })
    expect(await world.producer.result(spinner)).toBeNull()
    await world.producer.cancel(spinner)
    await world.producer.waitForResult(spinner)
  })
})

describe('the control groups of a worker', () => {
  it('are there while its tasks run, and gone after', async () => {
    const taskId = newTaskId('group')
    await world.producer.enqueue({ taskId, run: { script: 'echo on; sleep 60' } })
    for await (const { text } of world.producer.logs(taskId, { follow: true })) if (text.includes('on')) break
    expect(groupsOf(worker.id)).not.toEqual([])
    await world.producer.cancel(taskId)
    await world.producer.waitForResult(taskId)
    await eventually(() => groupsOf(worker.id).length === 0, { what: 'the groups to be gone' })
  })

  it('that was killed are removed by another', async () => {
    const other = await createWorld()
    const killed = await other.startWorker()
    try {
      const taskId = newTaskId('group')
      await other.producer.enqueue({ taskId, run: { script: 'echo on; sleep 600' } })
      for await (const { text } of other.producer.logs(taskId, { follow: true }))
        if (text.includes('on')) break
      await killForGood(killed, other.dataDir)
      expect(groupsOf(killed.id)).not.toEqual([])
      await other.startWorker()
      await eventually(() => groupsOf(killed.id).length === 0, {
        within: 30_000,
        what: 'the groups to be reaped',
      })
      await other.producer.cancel(taskId)
      await other.producer.waitForResult(taskId, { signal: AbortSignal.timeout(45_000) })
    } finally {
      await other.close()
    }
  }, 120_000)
})

describe('a worker that can make no control groups', () => {
  it('says so, asks the engine now and then, and knows who is idle', async () => {
    const other = await createWorld()
    try {
      const { id } = await other.startWorker({}, ['unshare', '--cgroup'])
      const record = (await other.producer.workers()).find(one => one.id === id)
      expect(record?.capabilities).toContainEqual(expect.objectContaining({ name: 'usage', state: 'weaker' }))
      const [busy, idle] = [newTaskId('engine'), newTaskId('engine')]
      const script = `perl -e '${burn(4)} sleep 2'`
      await other.producer.enqueue({ taskId: busy, run: { script }, limits: { idleTimeout: 30 } })
      await other.producer.enqueue({ taskId: idle, run: { script: 'sleep 60' }, limits: { idleTimeout: 3 } })
      const { usage, status } = await other.producer.waitForResult(busy)
      expect(status).toBe('succeeded')
      expect(usage.cpuMs).toBeGreaterThan(3000)
      expect(usage.memoryPeakBytes).toBeGreaterThan(MIB)
      expect(usage.pidsPeak).toBeGreaterThan(1)
      expect(await other.producer.waitForResult(idle)).toMatchObject({
        failure: { code: 'task.idle_timeout' },
      })
      expect(groupsOf(id)).toEqual([])
    } finally {
      await other.close()
    }
  }, 90_000)
})
