import { createHash } from 'node:crypto'
import type { Task } from '@agirunner/contracts'
import type { AcceptedTask } from '../intake/accepted-task.js'

/** Everything of a task that is settled with its container's creation. Tasks of one shape may have each other's containers. */
export interface Shape {
  /** The image as its registry names it. */
  readonly reference: string
  readonly profile: Task['environment']['profile']
  readonly runtime: string | null
  readonly network: Task['environment']['network']['mode']
  readonly resources: Task['environment']['resources']
  /** Whether there is a place for secrets. */
  readonly secrets: boolean
}

/** @param reference of the image that the task names */
export function shapeOf({ task, secrets }: AcceptedTask, reference: string): Shape {
  const { profile, runtime, network, resources } = task.environment
  return { reference, profile, runtime, network: network.mode, resources, secrets: secrets.size > 0 }
}

/** Equal for equal shapes. */
export function keyOf(shape: Shape): string {
  const { cpu, memory } = shape.resources
  return JSON.stringify([fixedKeyOf(shape), cpu, memory])
}

/** Equal for shapes that differ at most in what can be changed while a container runs: its processors and its memory. */
export function fixedKeyOf({ reference, profile, runtime, network, resources, secrets }: Shape): string {
  const { pids, disk, tmp, shm } = resources
  return JSON.stringify([reference, profile, runtime, network, pids, disk, tmp, shm, secrets])
}

/** A short name for a shape's key, for who counts what waits by it. */
export function nameOfKey(key: string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, 12)
}
