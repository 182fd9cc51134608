import { readFileSync } from 'node:fs'
import { type Capability, TaskFailure } from '@agirunner/contracts'
import type { EngineInfo } from '../engine/engine.js'

/**
 * An engine drops a limit that its machine can't enforce, and only warns of it. Swap alone is no reason to refuse: then
 * memory is still limited, and what does not fit may be swapped out.
 *
 * @throws TaskFailure `environment.unsupported` where a task would run with less than its limits
 */
export function refuseUnenforced({ unenforced }: EngineInfo): void {
  const without = unenforced.filter(limit => limit !== 'swap')
  if (without.length === 0) return
  throw new TaskFailure(
    'environment.unsupported',
    `the engine's machine can't limit ${without.join(', ')}: its kernel lacks the control group`,
  )
}

/** What holds tasks to their limits, and what tasks have in common in spite of them. */
export function limitCapabilities({ unenforced }: EngineInfo): Capability[] {
  const state = unenforced.some(limit => limit !== 'swap') ? 'missing' : 'weaker'
  return [
    unenforced.length === 0
      ? {
          name: 'limits',
          state: 'enforced',
          detail: 'CPU, memory without swap, and processes, by control groups',
          fix: null,
        }
      : {
          name: 'limits',
          state,
          detail: `the engine's machine can't limit ${unenforced.join(', ')}`,
          fix: 'enable the control groups of its kernel, for swap with the parameter swapaccount=1',
        },
    {
      name: 'limits per user',
      state: 'weaker',
      detail: `tasks of one profile have one uid, and the kernel counts some things by uid over all of them: inotify instances${here()}, pending signals and timers, message queues. A task can use these up for the others; those of the profile "root" for the machine's root too`,
      fix: 'raise fs.inotify.max_user_instances and the limits of the engine (LimitSIGPENDING, LimitNPROC, LimitMSGQUEUE): what they cost counts as memory of the task',
    },
  ]
}

/** Of this machine; the engine's may have another. */
function here(): string {
  try {
    return ` (${readFileSync('/proc/sys/fs/inotify/max_user_instances', 'latin1').trim()} here)`
  } catch {
    return ''
  }
}
