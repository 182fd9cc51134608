import { TaskFailure } from '@agirunner/contracts/failure'

/** Whether the system said that there is no room: on the disk, or in somebody's quota. */
export function isDiskFull(error: unknown): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return code === 'ENOSPC' || code === 'EDQUOT' || /No space left on device|Disk quota exceeded/.test(message)
}

export function diskFull(cause: unknown): TaskFailure {
  return new TaskFailure('workspace.disk_full', "the worker's disk has no room for the workspace", { cause })
}
