import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { eventually, processTree } from '@agirunner/test-kit'
import { RESOURCES, stopwatch } from './contender.js'
import { quantile, slope } from './statistics.js'
import type { Found, Plan, Stage, Station } from './suite.js'
import { align } from './table.js'
import { runTasks } from './throughput.js'

const SLEEPERS = 64
const BATCH = 50
/** Long enough for what was used to be given back, as far as it ever is. */
const REST_MS = 2000

/** Resident, in MiB, at rest. */
interface Resident {
  /** The worker's own process. */
  readonly own: number
  /** With those that it keeps: the proxies of task networks, what fetches and what captures. */
  readonly all: number
}

interface Memory {
  /** After one task. */
  readonly idle: Resident
  readonly sleeping: Resident
  readonly after: readonly (readonly [tasks: number, resident: Resident])[]
}

/** What a worker occupies: at rest, with many tasks that do nothing, and as more and more have run. */
export async function benchMemory(stage: Stage, { tasks, rounds }: Plan): Promise<Found> {
  const station = await stage.start({ AGIRUNNER_CONCURRENCY: String(SLEEPERS) })
  await runTasks(station, stage.image, 'warm', 1)
  const idle = await resting(station)
  const sleeping = await withSleepers(stage, station)
  await station.stop()
  stage.say(`memory: ${SLEEPERS} sleeping tasks`)
  const after = await overTasks(stage, tasks, rounds.seconds)
  const memory: Memory = { idle, sleeping, after }
  return { samples: memory, text: render(memory), targets: targetsOf(memory) }
}

async function withSleepers({ image, say }: Stage, station: Station): Promise<Resident> {
  const { producer } = station
  const taskIds = Array.from({ length: SLEEPERS }, (_, index) => `sleeper-${index}`)
  const environment = { image, resources: { ...RESOURCES, memory: 32 * 2 ** 20, disk: 64 * 2 ** 20 } }
  const run = { script: 'echo asleep; exec sleep 600' }
  await producer.enqueueMany(taskIds.map(taskId => ({ taskId, environment, run, limits: { grace: 0 } })))
  try {
    await Promise.all(taskIds.map(taskId => firstOutput(station, taskId)))
    return await resting(station)
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
async function overTasks(
  { start, image, say }: Stage,
  tasks: number,
  seconds: number,
): Promise<Memory['after']> {
  const elapsed = stopwatch()
  const station = await start({ AGIRUNNER_CONCURRENCY: '8' })
  const after: [number, Resident][] = []
  for (let done = 0; done < tasks && elapsed() < seconds * 1000; done += BATCH) {
    await runTasks(station, image, `flat-${done}`, Math.min(BATCH, tasks - done))
    after.push([Math.min(tasks, done + BATCH), await resting(station)])
    say(`memory: ${done + BATCH} of ${tasks} tasks`)
  }
  await station.stop()
  return after
}

async function resting({ worker }: Station): Promise<Resident> {
  await pause(REST_MS)
  const processes = await processTree(worker.pid)
  const sizes = await Promise.all(processes.map(({ pid }) => residentKiB(pid)))
  const all = sizes.reduce((sum, size) => sum + size, 0)
  return { own: (await residentKiB(worker.pid)) / 1024, all: all / 1024 }
}

async function residentKiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0)
}

/** The first half is not counted: a heap grows to what it needs before it stays. */
function growthKiB({ after }: Memory): number {
  const later = after.slice(Math.floor(after.length / 2))
  return later.length < 2 ? Number.NaN : slope(later.map(([tasks, { own }]) => [tasks, own * 1024]))
}

function render(memory: Memory): string {
  const { idle, sleeping, after } = memory
  const mib = ({ own, all }: Resident) => [own, all].map(value => `${value.toFixed(1)} MiB`)
  const each = { own: (sleeping.own - idle.own) / SLEEPERS, all: (sleeping.all - idle.all) / SLEEPERS }
  const marks = [0, 0.25, 0.5, 0.75, 1].map(part => Math.max(0, Math.ceil(after.length * part) - 1))
  const rows = [
    ['after one task', ...mib(idle)],
    [`with ${SLEEPERS} sleeping tasks`, ...mib(sleeping)],
    ['for each of them', ...mib(each)],
    ...[...new Set(marks)]
      .flatMap(mark => after.slice(mark, mark + 1))
      .map(([n, at]) => [`after ${n} tasks`, ...mib(at)]),
  ]
  const growth = `Over the second half of the tasks it grew by ${growthKiB(memory).toFixed(1)} KiB for each of them.`
  return `${align([['resident, at rest', 'the worker', 'with its processes'], ...rows])}\n\n${growth}`
}

function targetsOf({ idle, sleeping, after }: Memory) {
  const middle = Math.floor(after.length / 2)
  const median = (part: Memory['after']) =>
    quantile(
      part.map(([, { own }]) => own),
      0.5,
    )
  const flat = median(after.slice(middle)) / median(after.slice(0, middle))
  const each = (sleeping.all - idle.all) / SLEEPERS
  const tasks = after.at(-1)?.[0] ?? 0
  return [
    { what: 'worker at rest, its own process', atMost: 120, unit: 'MiB', measured: idle.own },
    { what: 'worker at rest, with its processes', atMost: 120, unit: 'MiB', measured: idle.all },
    { what: `each of ${SLEEPERS} sleeping tasks`, atMost: 1, unit: 'MiB', measured: each },
    // As flat as a heap is that grows and shrinks by itself.
    { what: `memory over ${tasks} tasks, later ÷ earlier half`, atMost: 1.05, unit: '×', measured: flat },
  ]
}
