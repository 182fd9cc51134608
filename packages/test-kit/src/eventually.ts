import { setTimeout as pause } from 'node:timers/promises'
import { inspect } from 'node:util'

export interface EventuallyOptions {
  /** How long to keep asking, in milliseconds; 10 s by default. */
  readonly within?: number
  /** The pause between two questions, in milliseconds; 50 by default. */
  readonly every?: number
  /** What is waited for, for the message. */
  readonly what?: string
}

/**
 * Asks again and again until the answer is truthy; one that throws counts as "not yet".
 *
 * @returns the first truthy answer
 * @throws Error with the last answer, or the last error as its cause, when the time is up
 *
 * @example const result = await eventually(() => producer.result('t-1'), { within: 5000, what: 'the result of t-1' })
 */
export async function eventually<T>(
  condition: () => T | Promise<T>,
  { within = 10_000, every = 50, what = 'the condition' }: EventuallyOptions = {},
): Promise<NonNullable<T>> {
  const end = performance.now() + within
  for (;;) {
    const answer = await ask(condition)
    if (answer.value) return answer.value
    if (performance.now() >= end) throw lateError(what, within, answer)
    await pause(every)
  }
}

type Answer<T> = { readonly value: T } | { readonly value: null; readonly error: unknown }

async function ask<T>(condition: () => T | Promise<T>): Promise<Answer<T>> {
  try {
    return { value: await condition() }
  } catch (error) {
    return { value: null, error }
  }
}

function lateError<T>(what: string, within: number, answer: Answer<T>): Error {
  if ('error' in answer) {
    return new Error(`${what} did not come within ${within} ms; at last it threw ${String(answer.error)}`, {
      cause: answer.error,
    })
  }
  return new Error(
    `${what} did not come within ${within} ms; the last answer was ${inspect(answer.value, { depth: 6 })}`,
  )
}
