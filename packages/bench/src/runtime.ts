import type { TaskResult } from '@agirunner/contracts'
import type { Producer } from '@agirunner/producer'
import { eventually } from '@agirunner/test-kit'
import { type Contender, RESOURCES, type Sample, SCRIPT, stopwatch } from './contender.js'

export interface RuntimeOptions {
  readonly name: string
  readonly producer: Producer
  readonly image: string
  /** The repository of a round, with the commit where the task is to name it. */
  readonly sourceOf: (round: number) => Promise<{ readonly url: string; readonly commit?: string }>
  /** Whether the worker parks: the next run is then only measured once it has. */
  readonly parks?: boolean
}

/** The runtime as the platform uses it: enqueue, follow the log, wait for the result with the change in it. */
export function runtime({ name, producer, image, sourceOf, parks }: RuntimeOptions): Contender {
  return {
    name,
    prepare: async round => void (await sourceOf(round)),
    run: async round => {
      const source = { type: 'git_remote' as const, ...(await sourceOf(round)) }
      const taskId = `${name.replace(/\W+/g, '-')}-${round}-${Date.now()}`
      const elapsed = stopwatch()
      await producer.enqueue({
        taskId,
        workspace: { source },
        environment: { image, resources: RESOURCES },
        run: { script: SCRIPT },
      })
      const [firstByteMs, result] = await Promise.all([
        firstEntry(producer, taskId).then(elapsed),
        producer.waitForResult(taskId),
      ])
      const resultMs = elapsed()
      return { firstByteMs, resultMs, ...(await partsOf(producer, result, Date.now())) }
    },
    ...(parks ? { settle: () => settled(producer) } : {}),
  }
}

async function firstEntry(producer: Producer, taskId: string): Promise<void> {
  for await (const entry of producer.logs(taskId, { follow: true })) {
    if (entry.text !== '') return
  }
  throw new Error(`${taskId} wrote nothing`)
}

/** @throws Error when it did not do what every contender does */
async function partsOf(
  producer: Producer,
  { taskId, status, changes, failure, timings, container }: TaskResult,
  resultAt: number,
): Promise<Pick<Sample, 'startMs' | 'endMs' | 'parked'>> {
  if (status !== 'succeeded' || changes?.files.length !== 1)
    throw new Error(`${taskId} ended as ${status}: ${failure?.message ?? 'without its change'}`)
  let endMs = Number.NaN
  for await (const { type, phase, at } of producer.events(taskId))
    if (type === 'phase.finished' && phase === 'run') endMs = resultAt - Date.parse(at)
  const parked = container?.parked ?? false
  const startMs = parked ? Number.NaN : (timings.createMs ?? Number.NaN) + (timings.startMs ?? Number.NaN)
  return { startMs, endMs, parked }
}

/**
 * Waits until a worker has parked what it is going to. What it says counts once it was written after the last task's
 * container started, which is when parking begins.
 *
 * @param count how many are to wait, at least
 */
export async function settled(producer: Producer, count = 1): Promise<void> {
  const since = Date.now()
  const isSettled = async () => {
    const [worker] = await producer.workers()
    const { at, parking, running } = worker ?? {}
    if (!at || !parking || parking.filling || (running?.length ?? 0) > 0) return false
    return Date.parse(at) > since && parking.parked.length >= count
  }
  await eventually(isSettled, { within: 60_000, every: 20, what: 'parking' })
}
