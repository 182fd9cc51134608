import { setTimeout as sleep } from 'node:timers/promises'
import type { Progress } from '../children/serve.js'
import { TransientFailure } from './transport.js'

export interface RetryOptions {
  /** From the first try to the beginning of the last, in milliseconds. */
  readonly budgetMs: number
  readonly progress: Progress
  /** Ends the pauses. */
  readonly signal?: AbortSignal
}

const FIRST_PAUSE_MS = 500
const LAST_PAUSE_MS = 8000

/**
 * Does it again when the connection was what failed; what a server said stays said. The pauses double, and each is
 * drawn from its second half, so that workers that failed together do not come back together.
 */
export async function withRetries<T>(
  { budgetMs, progress, signal }: RetryOptions,
  work: () => Promise<T>,
): Promise<T> {
  const started = performance.now()
  for (let tries = 1, pause = FIRST_PAUSE_MS; ; tries += 1, pause = Math.min(pause * 2, LAST_PAUSE_MS)) {
    try {
      return await work()
    } catch (error) {
      const waitMs = Math.round(pause * (0.5 + Math.random() / 2))
      const isLate = performance.now() - started + waitMs > budgetMs
      if (!(error instanceof TransientFailure) || isLate) throw error
      progress({ stage: 'retry', tries, waitMs, code: error.code, reason: error.message })
      await sleep(waitMs, undefined, signal ? { signal } : {})
    }
  }
}
