import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { eventually, processTree } from '@agirunner/test-kit'
import { RESOURCES } from './contender.js'
import { quantile, slope } from './statistics.js'
import type { Found, Plan, Stage, Station } from './suite.js'
import { align } from './table.js'
import { runTasks } from './throughput.js'

const SLEEPERS = 64
const BATCH = 50
/** Long enough for what was used to be given back, as far as it ever is. */
const REST_MS = 2000

interface Memory {
  /** Of the worker and the processes it keeps, in MiB: resident, at rest, after one task. */
  readonly idle: number
  readonly sleeping: number
  readonly after: readonly (readonly [tasks: number, mib: number])[]
}

/** What a worker occupies: at rest, with many tasks that do nothing, and as more and more have run. */
export async function benchMemory(stage: Stage, { tasks }: Plan): Promise<Found> {
  const station = await stage.start({ AGIRUNNER_CONCURRENCY: String(SLEEPERS) })
  await runTasks(station, stage.image, 'warm', 1)
  const idle = await restingMiB(station)
  const sleeping = await withSleepers(stage, station)
  await station.stop()
  stage.say(`memory: ${SLEEPERS} sleeping tasks`)
  const after = await overTasks(stage, tasks)
  const memory: Memory = { idle, sleeping, after }
  return { samples: memory, text: render(memory), targets: targetsOf(memory) }
}

async function withSleepers({ image, say }: Stage, station: Station): Promise<number> {
  const { producer } = station
  const taskIds = Array.from({ length: SLEEPERS }, (_, index) => `sleeper-${index}`)
  const environment = { image, resources: { ...RESOURCES, memory: 32 * 2 ** 20, disk: 64 * 2 ** 20 } }
  const run = { script: 'echo asleep; exec sleep 600' }
  await producer.enqueueMany(taskIds.map(taskId => ({ taskId, environment, run, limits: { grace: 0 } })))
  try {
    await Promise.all(taskIds.map(taskId => firstOutput(station, taskId)))
    return await restingMiB(station)
  } finally {
    say('memory: waking the sleepers')
    await Promise.all(taskIds.map(taskId => producer.cancel(taskId)))
    await Promise.all(taskIds.map(taskId => producer.waitForResult(taskId)))
  }
}

async function firstOutput({ producer }: Station, taskId: string): Promise<void> {
  const hasPrinted = async () => {
    for await (const _ of producer.logs(taskId)) return true
    return false
  }
  await eventually(hasPrinted, { within: 120_000, every: 500, what: `output of ${taskId}` })
}

/** A worker of its own: the other one's heap has been stretched by what it held at once. */
async function overTasks({ start, image, say }: Stage, tasks: number): Promise<Memory['after']> {
  const station = await start({ AGIRUNNER_CONCURRENCY: '8' })
  const after: [number, number][] = []
  for (let done = 0; done < tasks; done += BATCH) {
    await runTasks(station, image, `flat-${done}`, Math.min(BATCH, tasks - done))
    after.push([Math.min(tasks, done + BATCH), await restingMiB(station)])
    say(`memory: ${done + BATCH} of ${tasks} tasks`)
  }
  await station.stop()
  return after
}

async function restingMiB({ worker }: Station): Promise<number> {
  await pause(REST_MS)
  const processes = await processTree(worker.pid)
  const sizes = await Promise.all(processes.map(({ pid }) => residentKiB(pid)))
  return sizes.reduce((sum, size) => sum + size, 0) / 1024
}

async function residentKiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0)
}

/** The first half is not counted: a heap grows to what it needs before it stays. */
const growthKiB = ({ after }: Memory) => slope(after.slice(Math.floor(after.length / 2))) * 1024

function render(memory: Memory): string {
  const { idle, sleeping, after } = memory
  const mib = (value: number) => `${value.toFixed(1)} MiB`
  const at = (part: number) => after[Math.max(0, Math.ceil(after.length * part) - 1)]
  const marks = [at(0), at(0.25), at(0.5), at(0.75), at(1)].filter(mark => mark !== undefined)
  const rows = [
    ['at rest, after one task', mib(idle)],
    [`with ${SLEEPERS} sleeping tasks`, mib(sleeping)],
    ['  for each of them', mib((sleeping - idle) / SLEEPERS)],
    ...marks.map(([tasks, value]) => [`at rest, after ${tasks} tasks`, mib(value)]),
    ['  growth over the second half', `${growthKiB(memory).toFixed(1)} KiB for each task`],
  ]
  return align([['the worker and its processes', 'resident'], ...rows])
}

function targetsOf(memory: Memory) {
  const { idle, sleeping, after } = memory
  const half = (part: 0 | 1) => {
    const middle = Math.floor(after.length / 2)
    const values = part === 0 ? after.slice(0, middle) : after.slice(middle)
    return quantile(
      values.map(([, mib]) => mib),
      0.5,
    )
  }
  const measured = (sleeping - idle) / SLEEPERS
  const tasks = after.at(-1)?.[0] ?? 0
  return [
    { what: 'worker at rest, with its processes', atMost: 120, unit: 'MiB', measured: idle },
    { what: `each of ${SLEEPERS} sleeping tasks`, atMost: 1, unit: 'MiB', measured },
    // Flat is what a median of the later half shows that is within the noise of a heap.
    {
      what: `memory over ${tasks} tasks, later ÷ earlier half`,
      atMost: 1.05,
      unit: '×',
      measured: half(1) / half(0),
    },
  ]
}
