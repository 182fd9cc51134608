import type { Gauge, LiveContainer } from '@agirunner/contracts'
import { monotonicMs } from '../support/lifecycle.js'
import type { ContainerFacts, ContainerLimits, CurrentUse, MadeContainer, Roster } from '../support/roster.js'

export interface ContainerRosterOptions {
  readonly worker: string
  /** Of an image by its id, where that is known. */
  readonly distroOf: (imageId: string) => string | null
  /** Told when a container comes, goes or changes; must not throw. */
  readonly changed: () => void
}

interface Entry {
  made: MadeContainer
  facts: ContainerFacts | null
  lastLine: (() => Promise<LiveContainer['lastOutput']>) | null
  status: LiveContainer['status']
  isKept: boolean
  /** In Unix milliseconds. */
  startedAt: number | null
  /** The figure of the last look that is the next one's beginning, and when that was. */
  cpuSeen: { readonly ns: number; readonly at: number } | null
  cores: number | null
}

/** Over less, in milliseconds, the processors' figure says little: a task that is busy may just not have been on one. */
const LEAST_MS = 250
const NO_USE: CurrentUse = { cpuNs: null, memoryBytes: null, pids: null }

/** The worker's containers by what the rooms noted of them. Figures are read by `look` alone. */
export class ContainerRoster implements Roster {
  readonly #options: ContainerRosterOptions
  readonly #entries = new Map<string, Entry>()

  constructor(options: ContainerRosterOptions) {
    this.#options = options
  }

  made(id: string, made: MadeContainer): void {
    this.#entries.set(id, {
      made,
      facts: null,
      lastLine: null,
      status: 'starting',
      isKept: false,
      startedAt: null,
      cpuSeen: null,
      cores: null,
    })
    this.#options.changed()
  }

  describe(id: string, facts: ContainerFacts): void {
    this.#change(id, entry => {
      const { name, kind, limits, image } = facts
      entry.facts = facts
      entry.made = { ...entry.made, name, kind, limits, image }
      // What one used that waited is next to nothing, and its time is not the task's.
      if (entry.cpuSeen) entry.cpuSeen = { ns: entry.cpuSeen.ns, at: monotonicMs() }
    })
  }

  heard(id: string, lastLine: () => Promise<LiveContainer['lastOutput']>): void {
    this.#change(id, entry => {
      entry.lastLine = lastLine
    })
  }

  started(id: string, at?: number): void {
    this.#change(id, entry => {
      entry.status = 'running'
      entry.startedAt = at ?? Date.now()
      // Of one that ran before, the beginning is not known.
      entry.cpuSeen = at === undefined && !entry.isKept ? { ns: 0, at: monotonicMs() } : null
    })
  }

  limited(id: string, limits: Pick<ContainerLimits, 'cpus' | 'memoryBytes'>): void {
    this.#change(id, entry => {
      entry.made = { ...entry.made, limits: { ...entry.made.limits, ...limits } }
    })
  }

  stopping(id: string): void {
    this.#change(id, entry => {
      if (entry.status !== 'ended') entry.status = 'stopping'
    })
  }

  ended(id: string): void {
    this.#change(id, entry => {
      entry.status = 'ended'
    })
  }

  renamed(id: string, name: string, isKept: boolean): void {
    this.#change(id, entry => {
      entry.made = { ...entry.made, name }
      entry.isKept = isKept
    })
  }

  removed(id: string): void {
    if (this.#entries.delete(id)) this.#options.changed()
  }

  /** All of them as they are now. Never rejects: what can't be told of one is null. */
  async look(): Promise<LiveContainer[]> {
    return await Promise.all([...this.#entries].map(([id, entry]) => this.#tell(id, entry)))
  }

  #change(id: string, change: (entry: Entry) => void): void {
    const entry = this.#entries.get(id)
    if (entry === undefined) return
    change(entry)
    this.#options.changed()
  }

  async #tell(id: string, entry: Entry): Promise<LiveContainer> {
    const use = useOf(entry)
    const { made, facts, status, isKept, startedAt } = entry
    const { limits } = made
    const lastOutput = (await entry.lastLine?.().catch(() => null)) ?? null
    return {
      id,
      name: made.name,
      kind: isKept ? 'kept' : made.kind,
      status,
      taskId: facts?.taskId ?? null,
      attempt: facts?.attempt ?? null,
      tenantId: facts?.tenantId ?? null,
      labels: facts?.labels ?? {},
      image: made.image,
      imageDigest: facts?.imageDigest ?? null,
      distro: this.#options.distroOf(made.imageId),
      cpu: { used: coresOf(entry, use.cpuNs), limit: limits.cpus },
      memory: gauge(use.memoryBytes, limits.memoryBytes),
      pids: gauge(use.pids, limits.pids),
      // A kept one has left its network.
      network: isKept ? 'none' : (facts?.network ?? 'none'),
      startedAt: startedAt === null ? null : new Date(startedAt).toISOString(),
      lastOutput,
      worker: this.#options.worker,
    }
  }
}

function gauge(used: number | null, limit: number | null): Gauge {
  return { used, limit }
}

/** A group may be going away while it is read. */
function useOf({ facts }: Entry): CurrentUse {
  try {
    return facts?.use() ?? NO_USE
  } catch {
    return NO_USE
  }
}

/** Over the time since the last look, or since the container began. */
function coresOf(entry: Entry, cpuNs: number | null): number | null {
  if (cpuNs === null) return null
  const at = monotonicMs()
  const seen = entry.cpuSeen
  if (seen !== null && at - seen.at < LEAST_MS) return entry.cores
  entry.cpuSeen = { ns: cpuNs, at }
  entry.cores = seen === null ? null : Math.max(0, cpuNs - seen.ns) / ((at - seen.at) * 1e6)
  return entry.cores
}
