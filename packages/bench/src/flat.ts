import { mebibytes, type Resident, resting } from './resident.js'
import { quantile, slope } from './statistics.js'
import type { Found, Plan, Stage } from './suite.js'
import { align } from './table.js'
import { runTasks } from './throughput.js'

const BATCH = 50

type Mark = readonly [tasks: number, resident: Resident]

/** What a worker occupies as more and more tasks have run. */
export async function benchFlat(stage: Stage, { tasks }: Plan): Promise<Found> {
  const after = await overTasks(stage, tasks)
  return { samples: after, text: render(after), targets: targetsOf(after) }
}

async function overTasks({ start, image, say }: Stage, tasks: number): Promise<Mark[]> {
  const station = await start({ AGIRUNNER_CONCURRENCY: '8' })
  const after: Mark[] = []
  for (let done = 0; done < tasks; done += BATCH) {
    await runTasks(station, image, `flat-${done}`, Math.min(BATCH, tasks - done))
    after.push([Math.min(tasks, done + BATCH), await resting(station)])
    say(`flat: ${done + BATCH} of ${tasks} tasks`)
  }
  await station.stop()
  return after
}

function render(after: readonly Mark[]): string {
  const places = [0, 0.25, 0.5, 0.75, 1].map(part => Math.max(0, Math.ceil(after.length * part) - 1))
  const marks = after.filter((_, index) => places.includes(index))
  const rows = marks.map(([tasks, resident]) => [`after ${tasks} tasks`, ...mebibytes(resident)])
  const growth = `Over the second half of the tasks it grew by ${growthKiB(after).toFixed(1)} KiB for each of them.`
  return `${align([['resident, at rest', 'the worker', 'with its processes'], ...rows])}\n\n${growth}`
}

/** The first half is not counted: a heap grows to what it needs before it stays. */
function growthKiB(after: readonly Mark[]): number {
  const later = after.slice(Math.floor(after.length / 2))
  return later.length < 2 ? Number.NaN : slope(later.map(([tasks, { own }]) => [tasks, own * 1024]))
}

function targetsOf(after: readonly Mark[]) {
  const middle = Math.floor(after.length / 2)
  const median = (part: readonly Mark[]) => {
    const sizes = part.map(([, { own }]) => own)
    return quantile(sizes, 0.5)
  }
  const measured = median(after.slice(middle)) / median(after.slice(0, middle))
  const tasks = after.at(-1)?.[0] ?? 0
  // As flat as a heap is that grows and shrinks by itself.
  return [{ what: `memory over ${tasks} tasks, later ÷ earlier half`, atMost: 1.05, unit: '×', measured }]
}
