import { TaskFailure } from '@agirunner/contracts'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { type ProfilePolicy, refuseProfile } from './profiles.js'

/**
 * Refuses what this worker can't enforce or do, before anything is made: a task is never run with less than its spec
 * says.
 *
 * @throws TaskFailure `environment.unsupported`, or `spec.forbidden` for what the operator switched off
 */
export function refuseUnsupported({ task }: AcceptedTask, options: ProfilePolicy): void {
  const { environment, capture } = task
  const unsupported: readonly (readonly [boolean, string])[] = [
    [capture.artifacts.length > 0, 'capture.artifacts'],
  ]
  const found = unsupported.filter(([asked]) => asked).map(([, what]) => what)
  if (found.length > 0) {
    throw new TaskFailure('environment.unsupported', `this worker does not support ${found.join(', ')}`, {
      hint: 'leave it out of the task, or run a worker version that supports it',
    })
  }
  refuseProfile(environment, options)
}
