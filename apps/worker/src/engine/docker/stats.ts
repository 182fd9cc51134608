import type Docker from 'dockerode'
import type { ContainerUsage } from '../engine.js'
import { timed } from './timed.js'

/** What of the engine's figures is read; which of them are there depends on its version and the machine's. */
interface EngineStats {
  readonly read?: string
  readonly cpu_stats?: { readonly cpu_usage?: { readonly total_usage?: number } }
  readonly memory_stats?: { readonly usage?: number; readonly max_usage?: number }
  readonly pids_stats?: { readonly current?: number }
  readonly blkio_stats?: {
    readonly io_serviced_recursive?: readonly { readonly op?: string; readonly value?: number }[] | null
  }
  readonly networks?: Readonly<Record<string, { readonly rx_bytes?: number; readonly tx_bytes?: number }>>
}

/** `read` of a container that does not run. */
const NEVER = '0001-01-01T00:00:00Z'

/** What the engine says that a container uses now; null when it does not run any more. */
export async function readStats(docker: Docker, id: string): Promise<ContainerUsage | null> {
  const options = { stream: false, 'one-shot': true } as const
  const stats = (await timed(docker.getContainer(id).stats(options))) as unknown as EngineStats
  if (stats.read === NEVER || stats.pids_stats?.current === undefined) return null
  const { memory_stats: memory, networks } = stats
  const all = networks === undefined ? null : Object.values(networks)
  return {
    figures: {
      cpuNs: stats.cpu_stats?.cpu_usage?.total_usage ?? null,
      memoryPeakBytes: memory?.max_usage ?? memory?.usage ?? null,
      pidsPeak: stats.pids_stats.current,
      ioOperations: operations(stats),
      oomKills: null,
      pidsExceeded: null,
    },
    memoryBytes: memory?.usage ?? null,
    network: all && {
      rxBytes: all.reduce((sum, { rx_bytes: bytes = 0 }) => sum + bytes, 0),
      txBytes: all.reduce((sum, { tx_bytes: bytes = 0 }) => sum + bytes, 0),
    },
  }
}

/** Version 2 of control groups tells only bytes here; then CPU and network must do. */
function operations({ blkio_stats: io }: EngineStats): number | null {
  const list = io?.io_serviced_recursive ?? null
  if (list === null) return null
  return list
    .filter(({ op }) => /^(read|write)$/i.test(op ?? ''))
    .reduce((sum, { value = 0 }) => sum + value, 0)
}
