import { createHash, randomBytes } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/**
 * When a process started, in clock ticks since boot (field 22 of /proc/<pid>/stat). With the pid it names a process
 * for good, because pids are used again. Null when there is no such process, or no /proc.
 */
export function processStart(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null
  } catch {
    return null
  }
}

/** Names the set of pids that this process can see: one machine, one boot, one pid namespace. */
export function hostId(): string {
  const read = (name: () => string) => {
    try {
      return name()
    } catch {
      return ''
    }
  }
  const parts = [
    hostname(),
    read(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')),
    read(() => readlinkSync('/proc/self/ns/pid')),
  ]
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 12)
}

/** `w-<pid>-<start>-<random>`: whoever shares the pids can tell from it whether the worker lives. */
export function newWorkerId(): string {
  return `w-${process.pid}-${processStart(process.pid) ?? '0'}-${randomBytes(3).toString('hex')}`
}

/** Whether the worker of that id is alive, for a worker on the same host. */
export function isAlive(workerId: string): boolean {
  const [, pid, start] = workerId.split('-')
  if (pid === undefined || start === undefined) return false
  if (start !== '0') return processStart(Number(pid)) === start
  try {
    process.kill(Number(pid), 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
