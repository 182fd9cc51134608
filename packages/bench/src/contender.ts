import { availableParallelism } from 'node:os'

/** What one run of one contender took, in milliseconds from the moment it was asked for. */
export interface Sample {
  /** Until the first byte that the task wrote could be read. */
  readonly firstByteMs: number
  /** Until the outcome was known and nothing was left to do for whoever asked. */
  readonly resultMs: number
}
export const METRICS = ['firstByteMs', 'resultMs'] as const
export type Metric = (typeof METRICS)[number]

export interface Contender {
  readonly name: string
  /** Makes what a run needs and a user would have had before; it is not measured. */
  prepare(round: number): Promise<void>
  run(round: number): Promise<Sample>
}

/** The same for everybody: what is run, and within which limits. */
export const SCRIPT = 'echo started && echo changed > change.txt'
export const LIMITS = {
  cpu: Math.min(2, availableParallelism()),
  memoryBytes: 512 * 1024 * 1024,
  pids: 256,
} as const

/** Files of the repository that is cloned: about as many as a small service has. */
export const REPOSITORY_FILES = 400

/** Starts a clock; each call of what it gives says how long ago that was, in milliseconds. */
export function stopwatch(): () => number {
  const start = performance.now()
  return () => performance.now() - start
}
