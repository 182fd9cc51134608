import type { Producer } from '@agirunner/producer'
import { type Contender, LIMITS, SCRIPT, stopwatch } from './contender.js'

export interface RuntimeOptions {
  readonly name: string
  readonly producer: Producer
  readonly image: string
  /** The repository of a round. */
  readonly urlOf: (round: number) => Promise<string>
}

/** The runtime as the platform uses it: enqueue, follow the log, wait for the result with the change in it. */
export function runtime({ name, producer, image, urlOf }: RuntimeOptions): Contender {
  return {
    name,
    prepare: async round => void (await urlOf(round)),
    run: async round => {
      const url = await urlOf(round)
      const taskId = `${name.replace(/\W+/g, '-')}-${round}`
      const elapsed = stopwatch()
      await producer.enqueue({
        taskId,
        workspace: { source: { type: 'git_remote', url } },
        environment: {
          image,
          resources: { cpu: LIMITS.cpu, memory: LIMITS.memoryBytes, pids: LIMITS.pids },
        },
        run: { script: SCRIPT },
      })
      const [firstByteMs, result] = await Promise.all([
        firstEntry(producer, taskId).then(elapsed),
        producer.waitForResult(taskId),
      ])
      const resultMs = elapsed()
      if (result.status !== 'succeeded' || result.changes?.files.length !== 1) {
        throw new Error(
          `${taskId} ended as ${result.status}: ${result.failure?.message ?? 'without its change'}`,
        )
      }
      return { firstByteMs, resultMs }
    },
  }
}

async function firstEntry(producer: Producer, taskId: string): Promise<void> {
  for await (const entry of producer.logs(taskId, { follow: true })) {
    if (entry.text !== '') return
  }
  throw new Error(`${taskId} wrote nothing`)
}
