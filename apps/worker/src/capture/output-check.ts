import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { TaskFailure } from '@agirunner/contracts'
import type { OutputAnswer, OutputQuestion } from './output-thread.js'

/** A pattern in a schema can take for ever on a value that a task made for it; in milliseconds. */
const CHECK_MS = 10_000
const HEAP_MIB = 256

/**
 * Holds the task's output to `capture.outputSchema`, in a thread that can be ended.
 *
 * @returns the failure that the output is: `task.output_invalid`, or `spec.invalid` for a schema that can't be used,
 * which the producer would have refused; null when the output is as it should be
 */
export async function checkOutput(
  question: OutputQuestion,
  signal: AbortSignal,
): Promise<TaskFailure | null> {
  const thread = new Worker(new URL('./output-thread.js', import.meta.url), {
    workerData: question,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
    env: {},
  })
  const deadline = AbortSignal.timeout(CHECK_MS)
  try {
    const [answer] = (await once(thread, 'message', { signal: AbortSignal.any([deadline, signal]) })) as [
      OutputAnswer,
    ]
    return failureOf(answer)
  } catch (error) {
    signal.throwIfAborted()
    const why = deadline.aborted
      ? `it took more than ${CHECK_MS / 1000} s to check it`
      : `checking it failed: ${(error as Error).message}`
    return invalid([why])
  } finally {
    await thread.terminate()
  }
}

function failureOf(answer: OutputAnswer): TaskFailure | null {
  if ('problems' in answer) return answer.problems.length === 0 ? null : invalid(answer.problems)
  return new TaskFailure('spec.invalid', `capture.outputSchema: no JSON Schema: ${answer.schemaProblem}`, {
    phase: 'capture',
  })
}

function invalid(problems: readonly string[]): TaskFailure {
  const message = `output/result.json is not as capture.outputSchema says: ${problems.join('; ')}`
  return new TaskFailure('task.output_invalid', message, { phase: 'capture' })
}
