import { FAILURES, type Task, type TaskFailure } from '@agirunner/contracts'

/** How often an infrastructure failure before the first command is tried again without costing an attempt. */
const FREE_RETRIES = 2
const FREE_DELAY_MS = 500
const MAX_DELAY_MS = 10 * 60_000

/** What decides whether a failed attempt is followed by another. */
export interface RetryFacts {
  readonly failure: TaskFailure
  /** Whether this attempt's first command ran. */
  readonly ran: boolean
  /** Attempts so far, this one included. */
  readonly attempts: number
  /** Of those, how many ran. */
  readonly ranAttempts: number
}

/**
 * Decides on another attempt.
 *
 * @returns the delay before it in milliseconds, or null when this failure is the task's result
 */
export function retryDelay(task: Task, facts: RetryFacts): number | null {
  const { origin, retryable } = FAILURES[facts.failure.code]
  if (facts.failure.code === 'task.canceled' || facts.failure.code === 'task.expired') return null
  if (!facts.ran) {
    const free = facts.attempts - facts.ranAttempts
    if (origin !== 'infrastructure' || !retryable || free > FREE_RETRIES) return null
    return FREE_DELAY_MS * 2 ** (free - 1)
  }
  const wanted = task.retry.on.some(what => what === origin || what === facts.failure.code)
  if (!wanted || facts.ranAttempts >= task.retry.maxAttempts) return null
  const { type, delay } = task.retry.backoff
  const factor = type === 'exponential' ? 2 ** (facts.ranAttempts - 1) : 1
  return Math.min(MAX_DELAY_MS, delay * 1000 * factor)
}
