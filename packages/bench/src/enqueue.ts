import { REDIS_PREFIX } from '@agirunner/contracts'
import { createProducer } from '@agirunner/producer'
import { removeQueue, uniqueQueue } from '@agirunner/test-kit'
import { Queue } from 'bullmq'
import { RESOURCES, SCRIPT, stopwatch } from './contender.js'
import { rotated, roundsOf } from './rounds.js'
import { quantile, summary } from './statistics.js'
import type { Found, Plan, Stage } from './suite.js'
import { align, milliseconds, times } from './table.js'

const TASKS = 2000

/** Milliseconds for all the tasks of a round. */
interface Sample {
  readonly runtime: number
  readonly bulk: number
}

/** Enqueueing many tasks at once, beside BullMQ's own `addBulk` of the same data into the same Redis. */
export async function benchEnqueue({ redisUrl, image }: Stage, { rounds }: Plan): Promise<Found> {
  const samples: Sample[] = []
  for (const round of roundsOf(rounds)) {
    const sample = { runtime: 0, bulk: 0 }
    const sides = { runtime: byRuntime, bulk: byBulk }
    for (const side of rotated(['runtime', 'bulk'] as const, round))
      sample[side] = await sides[side](redisUrl, tasksOf(image, round))
    if (round > 0) samples.push(sample)
  }
  const measured = quantile(
    samples.map(({ runtime, bulk }) => bulk / runtime),
    0.5,
  )
  const row = (name: string, side: keyof Sample, ratio: string) => {
    const { median, p95, p99 } = summary(samples.map(sample => sample[side]))
    return [
      name,
      `${(TASKS / (median / 1000)).toFixed(0)} /s`,
      ...[median, p95, p99].map(milliseconds),
      ratio,
    ]
  }
  const head = [`${TASKS} tasks`, 'rate', 'median', 'p95', 'p99', 'rate ÷ addBulk']
  const rows = [row('producer.enqueueMany', 'runtime', times(measured)), row('bare addBulk', 'bulk', '1')]
  const targets = [{ what: 'enqueue rate ÷ bare addBulk', atLeast: 0.7, unit: '×', measured }]
  return { samples, text: align([head, ...rows]), targets }
}

function tasksOf(image: string, round: number) {
  return Array.from({ length: TASKS }, (_, index) => ({
    taskId: `enqueue-${round}-${index}`,
    environment: { image, resources: RESOURCES },
    run: { script: SCRIPT },
  }))
}
type Tasks = ReturnType<typeof tasksOf>

/** Nobody takes them out: a queue of its own, with no worker. */
async function byRuntime(redis: string, tasks: Tasks): Promise<number> {
  const queue = uniqueQueue('bench')
  const producer = createProducer({ redis, queue })
  try {
    // The first call connects.
    await producer.enqueue({ taskId: 'first', run: { script: 'true' } })
    const elapsed = stopwatch()
    await producer.enqueueMany(tasks)
    return elapsed()
  } finally {
    await producer.close()
    await removeQueue(redis, queue)
  }
}

async function byBulk(redis: string, tasks: Tasks): Promise<number> {
  const name = uniqueQueue('bench')
  const queue = new Queue(name, { connection: { url: redis }, prefix: REDIS_PREFIX })
  try {
    await queue.add('task', {}, { jobId: 'first' })
    const elapsed = stopwatch()
    await queue.addBulk(tasks.map(data => ({ name: 'task', data, opts: { jobId: data.taskId } })))
    return elapsed()
  } finally {
    await queue.close()
    await removeQueue(redis, name)
  }
}
