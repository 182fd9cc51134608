import { closeSync, constants, openSync, readSync } from 'node:fs'

/** The kernel gives one record a read, none longer than this. */
const MAX_RECORD = 8 * 1024
/** More than the kernel keeps. */
const MAX_RECORDS = 100_000

/**
 * Counts the OOM kills in a group, or below it, that the kernel has logged. It logs them before the process dies, but no more
 * than ten of the whole machine in five seconds: what is there proves a kill, what is not proves nothing.
 *
 * @param group the path of a group, as the kernel has it
 */
export function loggedOomKills(group: string): number {
  let file: number
  try {
    file = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK)
  } catch {
    return 0
  }
  try {
    let kills = 0
    for (const record of records(file)) if (isOomKill(record, group)) kills += 1
    return kills
  } finally {
    closeSync(file)
  }
}

function* records(file: number): Generator<string> {
  const buffer = Buffer.alloc(MAX_RECORD)
  for (let count = 0; count < MAX_RECORDS; count += 1) {
    try {
      yield buffer.toString('latin1', 0, readSync(file, buffer, 0, MAX_RECORD, null))
    } catch (error) {
      // Records that were overwritten while this read are skipped; the last one was read when none is there.
      if ((error as NodeJS.ErrnoException).code !== 'EPIPE') return
    }
  }
}

/** What a process calls itself comes after the group, and is too short to hold one. */
export function isOomKill(record: string, group: string): boolean {
  const killed = /;oom-kill:.*?,task_memcg=([^,]*),task=/.exec(record)?.[1]
  return killed !== undefined && (killed === group || killed.startsWith(`${group}/`))
}
