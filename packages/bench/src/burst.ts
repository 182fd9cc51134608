import { runBare } from './bare.js'
import { stopwatch } from './contender.js'
import { settled } from './runtime.js'
import { summary } from './statistics.js'
import type { Found, Stage } from './suite.js'
import { align, milliseconds, times } from './table.js'
import { runTasks } from './throughput.js'

const TASKS = 100
const AT_ONCE = 8

interface Burst {
  /** Of each task, in milliseconds from the burst's beginning, in no order. */
  readonly firstOutputs: readonly number[]
  readonly allMs: number
  readonly parked: number
}

/** A hundred tasks at once on one environment: how long each waits for its first output. */
export async function benchBurst(stage: Stage): Promise<Found> {
  const bursts: Record<string, Burst> = {
    'runtime, parked': await byRuntime(stage, AT_ONCE),
    'runtime, cold': await byRuntime(stage, 0),
    'bare containers': await byBare(stage),
  }
  const floor = summary(bursts['bare containers']?.firstOutputs ?? [])
  const rows = Object.entries(bursts).map(([name, { firstOutputs, allMs, parked }]) => {
    const { median, p95, p99 } = summary(firstOutputs)
    const ratio = times(median / floor.median)
    return [
      name,
      ...[Math.min(...firstOutputs), median, p95, p99, allMs].map(milliseconds),
      ratio,
      String(parked),
    ]
  })
  const head = [
    'to the first output',
    'first',
    'p50',
    'p95',
    'p99',
    'all done',
    'p50 ÷ bare',
    'had a parked one',
  ]
  return { samples: bursts, text: align([[...head], ...rows]) }
}

async function byRuntime({ start, image, say }: Stage, park: number): Promise<Burst> {
  const station = await start({ AGIRUNNER_CONCURRENCY: String(AT_ONCE), AGIRUNNER_PARK: String(park) })
  // What it has seen at once is what it parks.
  await runTasks(station, image, 'before', AT_ONCE)
  if (park > 0) await settled(station.producer, 1)
  const since = Date.now()
  const elapsed = stopwatch()
  const results = await runTasks(station, image, 'burst', TASKS)
  const allMs = elapsed()
  const firstOutputs = await Promise.all(
    results.map(async ({ taskId }) => {
      // When the worker had it: a hundred followers would be a burden of their own.
      for await (const { at } of station.producer.logs(taskId)) return Date.parse(at) - since
      return Number.NaN
    }),
  )
  await station.stop()
  say(`burst: ${park > 0 ? 'parked' : 'cold'}`)
  return { firstOutputs, allMs, parked: results.filter(({ container }) => container?.parked).length }
}

async function byBare({ docker, image, say }: Stage): Promise<Burst> {
  const elapsed = stopwatch()
  const firstOutputs: number[] = []
  const loop = async () => {
    while (firstOutputs.length + running < TASKS) {
      running += 1
      const before = elapsed()
      const { firstByteMs } = await runBare(docker, image)
      running -= 1
      firstOutputs.push(before + firstByteMs)
    }
  }
  let running = 0
  await Promise.all(Array.from({ length: AT_ONCE }, loop))
  say('burst: bare containers')
  return { firstOutputs, allMs: elapsed(), parked: 0 }
}
