import { availableParallelism } from 'node:os'

/** What one run of one contender took, in milliseconds from the moment it was asked for. */
export interface Sample {
  /** Until the first byte that the task wrote could be read. */
  readonly firstByteMs: number
  /** Until the outcome was known and nothing was left to do for whoever asked. */
  readonly resultMs: number
  /** Of these, creating and starting the container, where that can be told apart. */
  readonly startMs?: number
  /** From the end of the task's last process to the outcome, where that can be told apart. */
  readonly endMs?: number
  /** Whether a container had been waiting for the task. */
  readonly parked?: boolean
}
export const METRICS = ['firstByteMs', 'resultMs', 'startMs', 'endMs'] as const
export type Metric = (typeof METRICS)[number]

export interface Contender {
  readonly name: string
  /** Makes what a run needs and a user would have had before; it is not measured. */
  prepare(round: number): Promise<void>
  run(round: number): Promise<Sample>
  /** Waits until what the run set going is over, so that it is not in the next contender's time. */
  settle?(): Promise<void>
}

/** A peer that this machine can't run. */
export interface Absent {
  readonly name: string
  readonly reason: string
}

/** A peer is tried out once, so that one that does not run here is told as such and stops nothing. */
export async function tryOut(peer: Contender | Absent): Promise<Contender | Absent> {
  if (isAbsent(peer)) return peer
  try {
    await peer.prepare(0)
    await peer.run(0)
    return peer
  } catch (error) {
    return { name: peer.name, reason: `it failed when it was tried: ${String(error)}` }
  }
}

export const isAbsent = (one: Contender | Absent): one is Absent => 'reason' in one

/** The same for everybody: what is run, and within which limits. */
export const SCRIPT = 'echo started && echo changed > change.txt'
export const LIMITS = {
  cpu: Math.min(2, availableParallelism()),
  memoryBytes: 512 * 1024 * 1024,
  pids: 256,
} as const

/** The limits as a task of the runtime's names them. */
export const RESOURCES = { cpu: LIMITS.cpu, memory: LIMITS.memoryBytes, pids: LIMITS.pids } as const

/** Files of the repository that is cloned: about as many as a small service has. */
export const REPOSITORY_FILES = 400

/** Starts a clock; each call of what it gives says how long ago that was, in milliseconds. */
export function stopwatch(): () => number {
  const start = performance.now()
  return () => performance.now() - start
}
