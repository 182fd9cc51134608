import type { TaskResult } from '@agirunner/contracts'
import { runUnheard } from './bare.js'
import { RESOURCES, SCRIPT, stopwatch } from './contender.js'
import { rotated, roundsOf } from './rounds.js'
import { quantile } from './statistics.js'
import type { Found, Plan, Stage, Station } from './suite.js'
import { align, milliseconds, times } from './table.js'

const CONCURRENCIES = [1, 2, 4, 8, 16]

/** Tasks, or containers, a second in one round. */
interface Sample {
  readonly runtime: number
  readonly bare: number
  readonly results: readonly Pick<TaskResult, 'timings'>[]
}

/** How many tasks end in a second, beside a loop of bare containers with as many at once. */
export async function benchThroughput(stage: Stage, { rounds }: Plan): Promise<Found> {
  const found: { concurrency: number; samples: Sample[] }[] = []
  for (const concurrency of CONCURRENCIES) {
    const station = await stage.start({ AGIRUNNER_CONCURRENCY: String(concurrency) })
    const count = 4 + 2 * concurrency
    const share = { most: rounds.most, seconds: rounds.seconds / CONCURRENCIES.length }
    const samples: Sample[] = []
    for (const round of roundsOf(share)) {
      // The round that warms up needs no more than to fill every place once.
      const sample = await measureRound(stage, station, concurrency, round === 0 ? concurrency : count, round)
      if (round > 0) samples.push(sample)
    }
    await station.stop()
    stage.say(`throughput: ${concurrency} at once`)
    found.push({ concurrency, samples })
  }
  const rows = found.map(({ concurrency, samples }) => rowOf(concurrency, samples))
  const head = ['at once', 'runtime', 'bare', 'runtime ÷ bare', 'in the rounds']
  const targets = found.map(({ concurrency, samples }) => ({
    what: `throughput ÷ bare loop, ${concurrency} at once`,
    atLeast: 0.9,
    unit: '×',
    measured: quantile(samples.map(ratioOf), 0.5),
  }))
  const text = `${align([head, ...rows])}\n\n${renderParts(found)}`
  return { samples: found, text, targets }
}

const PARTS = ['workspaceMs', 'imageMs', 'createMs', 'startMs', 'runMs', 'captureMs', 'reportMs'] as const

/** Where a task's time went. */
function renderParts(found: readonly { concurrency: number; samples: readonly Sample[] }[]): string {
  const rows = found.map(({ concurrency, samples }) => {
    const timings = samples.flatMap(({ results }) => results.map(result => result.timings))
    const median = (part: (typeof PARTS)[number]) =>
      quantile(
        timings.map(one => one[part] ?? Number.NaN),
        0.5,
      )
    return [String(concurrency), ...PARTS.map(part => milliseconds(median(part)))]
  })
  return align([['at once', ...PARTS.map(part => part.replace('Ms', ''))], ...rows])
}

const ratioOf = ({ runtime, bare }: Sample) => runtime / bare

function rowOf(concurrency: number, samples: readonly Sample[]): string[] {
  const perSecond = (of: (sample: Sample) => number) => `${quantile(samples.map(of), 0.5).toFixed(1)} /s`
  const ratios = samples.map(ratioOf)
  const range = `${times(Math.min(...ratios))} to ${times(Math.max(...ratios))}`
  return [
    String(concurrency),
    perSecond(({ runtime }) => runtime),
    perSecond(({ bare }) => bare),
    times(quantile(ratios, 0.5)),
    range,
  ]
}

async function measureRound(
  stage: Stage,
  station: Station,
  concurrency: number,
  count: number,
  round: number,
): Promise<Sample> {
  const rates = { runtime: 0, bare: 0 }
  let results: Sample['results'] = []
  const sides = {
    runtime: async () => {
      const all = await runTasks(station, stage.image, `${concurrency}-${round}`, count)
      results = all.map(({ timings }) => ({ timings }))
    },
    bare: () => runBareLoop(stage, concurrency, count),
  }
  for (const side of rotated(['runtime', 'bare'] as const, round)) {
    const elapsed = stopwatch()
    await sides[side]()
    rates[side] = count / (elapsed() / 1000)
  }
  return { ...rates, results }
}

/** All are in the queue from the beginning; what counts is when the last result is there. */
export async function runTasks({ producer }: Station, image: string, name: string, count: number) {
  const taskIds = Array.from({ length: count }, (_, index) => `tasks-${name}-${index}`)
  await producer.enqueueMany(
    taskIds.map(taskId => ({
      taskId,
      environment: { image, resources: RESOURCES },
      run: { script: SCRIPT },
      capture: { changes: 'none' as const },
    })),
  )
  const results = await Promise.all(taskIds.map(taskId => producer.waitForResult(taskId)))
  const failed = results.find(({ status }) => status !== 'succeeded')
  if (failed) throw new Error(`${failed.taskId} ended as ${failed.status}: ${failed.failure?.message}`)
  return results
}

async function runBareLoop({ docker, image }: Stage, concurrency: number, count: number): Promise<void> {
  let left = count
  const loop = async () => {
    while (left > 0) {
      left -= 1
      await runUnheard(docker, image)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, loop))
}
