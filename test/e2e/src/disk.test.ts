import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { connectEngine, expectNoLeaks } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { createWorld, killForGood, newTaskId, readLogs, type World } from './support.js'

const MIB = 2 ** 20
let world: World

async function run(task: Omit<TaskInput, 'taskId'>): Promise<TaskResult> {
  const taskId = newTaskId('disk')
  await world.producer.enqueue({ taskId, ...task })
  return await world.producer.waitForResult(taskId)
}

const small = { environment: { resources: { disk: '24m' } }, limits: { grace: 0 } } as const
/** What is bounded so that it would do no harm where nothing stops it. */
const FILLS: readonly (readonly [string, string])[] = [
  ['the repository', 'dd if=/dev/zero of=big bs=1M count=60'],
  ['its output', 'dd if=/dev/zero of=/workspace/output/big bs=1M count=60'],
  ['its home', 'dd if=/dev/zero of="$HOME/big" bs=1M count=60'],
  ['its log', 'head -c 60000000 /dev/zero'],
  ['many small files', 'i=0; while [ $i -lt 6000 ]; do : >f$i || exit 1; i=$((i+1)); done'],
]

describe.each(['overlay_volume', 'copy'])('a disk of its own, with strategy %s', strategy => {
  beforeAll(async () => {
    world = await createWorld()
    await world.startWorker({ AGIRUNNER_STRATEGY: strategy })
  })
  afterAll(async () => await world.close())

  it.each(FILLS)('ends where it ends, and the host is unharmed: %s', async (_what, fill) => {
    const canary = join(world.hostRoot, 'canary')
    await writeFile(canary, 'sings')
    const result = await run({ ...small, run: { script: `echo kept >kept.txt; ${fill}` } })
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'task.disk_full', origin: 'task', phase: 'run' },
      exit: { cause: 'exited' },
    })
    expect(result.changes?.files).toContainEqual(expect.objectContaining({ path: 'repo/kept.txt' }))
    expect(result.usage.diskBytes).toBeLessThan(32 * MIB)
    expect(await readFile(canary, 'utf8')).toBe('sings')
  })

  it.each(FILLS)('is what ends it: with more room the same succeeds: %s', async (_what, fill) => {
    const roomy = { resources: { disk: '256m' } }
    expect(await run({ environment: roomy, run: { script: fill } })).toMatchObject({ status: 'succeeded' })
  })

  it('is about as large as was asked for, and says what was used', async () => {
    const script = 'df -B1 --output=avail . | tail -1; head -c 10000000 /dev/urandom >big'
    const taskId = newTaskId('disk')
    await world.producer.enqueue({ taskId, environment: { resources: { disk: '100m' } }, run: { script } })
    const { usage } = await world.producer.waitForResult(taskId)
    const avail = Number((await readLogs(world.producer, taskId)).stdout)
    expect(avail).toBeGreaterThan(99 * MIB)
    expect(avail).toBeLessThan(108 * MIB)
    expect(usage.diskBytes).toBeGreaterThanOrEqual(10_000_000)
    expect(usage.diskBytes).toBeLessThan(11_000_000)
  })

  it('takes a neighbour nothing away', async () => {
    const neighbour = run({ run: { script: 'sleep 1; head -c 30000000 /dev/zero >mine; sync' } })
    expect(await run({ ...small, run: { script: 'cat /dev/zero >big' } })).toMatchObject({
      failure: { code: 'task.disk_full' },
    })
    expect(await neighbour).toMatchObject({ status: 'succeeded' })
  })

  it('lets a task that got over it succeed', async () => {
    const script = 'cat /dev/zero >big; rm big; echo done >done.txt'
    expect(await run({ ...small, run: { script } })).toMatchObject({ status: 'succeeded' })
  })

  it('does not hold what root writes beside its workspace: that is watched', async () => {
    const environment = { ...small.environment, profile: 'root' } as const
    const script = 'head -c 60000000 /dev/zero >/var/big; sleep 600'
    expect(await run({ ...small, environment, run: { script } })).toMatchObject({
      failure: { code: 'task.disk_full' },
      exit: { cause: 'limit' },
    })
  })
})

describe.each(['copy', 'archive'])('a disk that is only watched, with strategy %s', strategy => {
  beforeAll(async () => {
    world = await createWorld()
    await world.startWorker({ AGIRUNNER_STRATEGY: strategy, AGIRUNNER_DISK_QUOTA: 'off' })
  })
  afterAll(async () => await world.close())

  it('ends a task that writes more than it may', async () => {
    const script = 'echo kept >kept.txt; head -c 60000000 /dev/zero >big; sleep 600'
    const result = await run({ ...small, run: { script } })
    expect(result).toMatchObject({
      failure: { code: 'task.disk_full' },
      exit: { cause: 'limit', signal: 'SIGKILL' },
    })
    expect(result.changes?.files).toContainEqual(expect.objectContaining({ path: 'repo/kept.txt' }))
    expect(result.usage.diskBytes).toBeGreaterThan(60_000_000)
  })
})

describe.each(['overlay_volume', 'archive'])('the limit of output, with strategy %s', strategy => {
  beforeAll(async () => {
    world = await createWorld()
    await world.startWorker({ AGIRUNNER_STRATEGY: strategy })
  })
  afterAll(async () => await world.close())

  it('ends a task that goes on past it', async () => {
    const script = 'head -c 20000000 /dev/zero >/workspace/output/big; sleep 600'
    expect(await run({ limits: { outputBytes: '8m', grace: 0 }, run: { script } })).toMatchObject({
      status: 'failed',
      failure: { code: 'task.output_limit' },
      exit: { cause: 'limit' },
    })
  })

  it('holds for what was left at the end', async () => {
    const script = 'head -c 20000000 /dev/zero >/workspace/output/big'
    const run8m = (more: string) => run({ limits: { outputBytes: more }, run: { script } })
    expect(await run8m('8m')).toMatchObject({ failure: { code: 'task.output_limit' } })
    expect(await run8m('32m')).toMatchObject({ status: 'succeeded' })
  })
})

describe('a worker that is killed while disks are mounted', () => {
  beforeEach(async () => {
    world = await createWorld()
  })
  afterEach(async () => await world.close())

  it('leaves none for long', async () => {
    const first = await world.startWorker()
    const taskId = newTaskId('disk')
    await world.producer.enqueue({ taskId, run: { script: 'echo started; sleep 600' } })
    for await (const entry of world.producer.logs(taskId, { follow: true }))
      if (entry.text.includes('started')) break
    await killForGood(first, world.dataDir)
    expect(await readFile('/proc/self/mountinfo', 'utf8')).toContain(`${world.dataDir}/disks/${first.id}/`)
    await world.startWorker()
    await expectNoLeaks({ labels: { 'agirunner.worker': first.id } })
    const table = await readFile('/proc/self/mountinfo', 'utf8')
    expect(table).not.toContain(`${world.dataDir}/disks/${first.id}`)
    const [left] = await connectEngine().listContainers({ filters: { name: [taskId] } })
    expect(left).toBeUndefined()
    expect(await world.producer.waitForResult(taskId)).toMatchObject({ failure: { code: 'worker.lost' } })
  }, 90_000)
})
