import { eventually } from '@agirunner/test-kit'
import { RESOURCES } from './contender.js'
import { mebibytes, type Resident, resting } from './resident.js'
import type { Found, Stage, Station } from './suite.js'
import { align } from './table.js'
import { runTasks } from './throughput.js'

const SLEEPERS = 64

interface Memory {
  /** After one task. */
  readonly idle: Resident
  readonly sleeping: Resident
}

/** What a worker occupies: at rest, and with many tasks that do nothing. */
export async function benchMemory(stage: Stage): Promise<Found> {
  const station = await stage.start({ AGIRUNNER_CONCURRENCY: String(SLEEPERS) })
  await runTasks(station, stage.image, 'warm', 1)
  const idle = await resting(station)
  const sleeping = await withSleepers(stage, station)
  await station.stop()
  const memory: Memory = { idle, sleeping }
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

function eachOf({ idle, sleeping }: Memory): Resident {
  return { own: (sleeping.own - idle.own) / SLEEPERS, all: (sleeping.all - idle.all) / SLEEPERS }
}

function render(memory: Memory): string {
  return align([
    ['resident, at rest', 'the worker', 'with its processes'],
    ['after one task', ...mebibytes(memory.idle)],
    [`with ${SLEEPERS} sleeping tasks`, ...mebibytes(memory.sleeping)],
    ['for each of them', ...mebibytes(eachOf(memory))],
  ])
}

function targetsOf(memory: Memory) {
  const { own, all } = memory.idle
  return [
    { what: 'worker at rest, its own process', atMost: 120, unit: 'MiB', measured: own },
    { what: 'worker at rest, with its processes', atMost: 120, unit: 'MiB', measured: all },
    { what: `each of ${SLEEPERS} sleeping tasks`, atMost: 1, unit: 'MiB', measured: eachOf(memory).all },
  ]
}
