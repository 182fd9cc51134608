import { readFileSync } from 'node:fs'
import type { Capability } from '@agirunner/contracts'

/** What tasks have in common in spite of their limits. */
export function sharedLimits(): Capability {
  return {
    name: 'limits per user',
    state: 'weaker',
    detail: `tasks of one profile have one uid, and the kernel counts some things by uid over all of them: inotify instances${here()}, pending signals and timers, message queues. A task can use these up for the others; those of the profile "root" for the machine's root too`,
    fix: 'raise fs.inotify.max_user_instances and the limits of the engine (LimitSIGPENDING, LimitNPROC, LimitMSGQUEUE): what they cost counts as memory of the task',
  }
}

/** Of this machine; the engine's may have another. */
function here(): string {
  try {
    return ` (${readFileSync('/proc/sys/fs/inotify/max_user_instances', 'latin1').trim()} here)`
  } catch {
    return ''
  }
}
