import { closeSync, openSync, readSync } from 'node:fs'

/** More than a container has interfaces; in bytes. */
const MAX_TABLE = 64 * 1024

export interface NetworkTotals {
  readonly rxBytes: number
  readonly txBytes: number
}

/**
 * The network counters of a container. The open file keeps its network namespace for as long, so that they can be read up
 * to the moment in which the engine takes the interface away.
 */
export class NetworkCounters {
  readonly #buffer = Buffer.alloc(MAX_TABLE)
  #file: number | null

  /** @param pid of any process of the container; null is returned when it has ended, or may not be looked at */
  static open(pid: number): NetworkCounters | null {
    try {
      return new NetworkCounters(openSync(`/proc/${pid}/net/dev`, 'r'))
    } catch {
      return null
    }
  }

  private constructor(file: number) {
    this.#file = file
  }

  /** Sums over all interfaces but the loopback; null when there is none any more. */
  read(): NetworkTotals | null {
    if (this.#file === null) return null
    try {
      const bytes = readSync(this.#file, this.#buffer, 0, MAX_TABLE, 0)
      return parseTable(this.#buffer.toString('latin1', 0, bytes))
    } catch {
      return null
    }
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file)
    this.#file = null
  }
}

/** Lines of /proc/net/dev: a name, then eight numbers received, of which the first is bytes, and eight sent. */
export function parseTable(table: string): NetworkTotals | null {
  const rows = [...table.matchAll(/^\s*([^\s:]+):\s*(.+)$/gm)].filter(([, name]) => name !== 'lo')
  if (rows.length === 0) return null
  const sum = (column: number) =>
    rows.reduce((total, [, , numbers = '']) => total + Number(numbers.split(/\s+/)[column] ?? 0), 0)
  return { rxBytes: sum(0), txBytes: sum(8) }
}
