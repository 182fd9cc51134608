import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { processTree } from '@agirunner/test-kit'
import type { Station } from './suite.js'

/** Long enough for what was used to be given back, as far as it ever is. */
const REST_MS = 2000

/** Resident, in MiB, at rest. */
export interface Resident {
  /** The worker's own process. */
  readonly own: number
  /** With those that it keeps: the proxies of task networks, what fetches and what captures. */
  readonly all: number
}

export async function resting({ worker }: Station): Promise<Resident> {
  await pause(REST_MS)
  const processes = await processTree(worker.pid)
  const sizes = await Promise.all(processes.map(({ pid }) => residentKiB(pid)))
  const all = sizes.reduce((sum, size) => sum + size, 0)
  return { own: (await residentKiB(worker.pid)) / 1024, all: all / 1024 }
}

async function residentKiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0)
}

/** As the two columns of a table. */
export function mebibytes({ own, all }: Resident): string[] {
  return [own, all].map(value => `${value.toFixed(1)} MiB`)
}
