import { readFile } from 'node:fs/promises'
import { cpus, loadavg, release, totalmem } from 'node:os'
import type Docker from 'dockerode'

/** What the figures depend on. */
export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly system: string
  readonly kernel: string
  readonly engine: string
  readonly node: string
  /** Of the last minute, when it began: what others were doing. */
  readonly load: number
}

export async function describeMachine(docker: Docker): Promise<Machine> {
  const { ServerVersion: engine } = (await docker.info()) as { ServerVersion: string }
  const system = /^PRETTY_NAME="?([^"\n]*)/m.exec(await readFile('/etc/os-release', 'utf8').catch(() => ''))
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: system?.[1] ?? process.platform,
    kernel: release(),
    engine,
    node: process.version,
    load: loadavg()[0] ?? Number.NaN,
  }
}

export function renderMachine(machine: Machine): string {
  const { cpu, cores, memoryGiB, system, kernel, engine, node, load } = machine
  const hardware = `${cores} cores (${cpu}), ${memoryGiB} GiB`
  return `${hardware}, ${system}, Linux ${kernel}, engine ${engine}, Node ${node}; load at the start ${load.toFixed(1)}`
}
