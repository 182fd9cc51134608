import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Usage } from '@agirunner/contracts'
import { type Figures, mergeFigures, NO_FIGURES } from '../engine/cgroup/figures.js'
import type { TaskGroup } from '../engine/cgroup/task-groups.js'
import type { ContainerEngine, ContainerUsage } from '../engine/engine.js'
import { monotonicMs } from '../support/lifecycle.js'
import type { CurrentUse } from '../support/roster.js'
import { NetworkCounters, type NetworkTotals } from './network-counters.js'

/** How often a group is read, in milliseconds: it takes 0.14 of one. */
const GROUP_MS = 250
/** When it is looked at first, in milliseconds: the first output of a task does not wait for that. */
const FIRST_LOOK_MS = 20
/** How often the network's counters are: they go with the container, and what it carries after the last look is not seen. */
const NETWORK_MS = 100
/**
 * How often the OOM kills of a young container are, and of one that uses much of its memory, where the count is lost with
 * it: from the end of its main process to the end of its group it is some ten milliseconds.
 */
const OOM_MS = 10
const YOUNG_MS = 2000
const MUCH = 0.5
/** How often the engine is asked where there is no group: it takes some milliseconds of its time. */
const ENGINE_MS = 1000

/** What the task has done up to a time, as far as it can be told. */
export interface Activity {
  readonly cpuNs: number | null
  readonly ioOperations: number | null
  readonly networkBytes: number | null
  readonly logBytes: number
}

/** What a container has used, its time apart. */
export type Measured = Pick<
  Usage,
  'cpuMs' | 'memoryPeakBytes' | 'pidsPeak' | 'networkRxBytes' | 'networkTxBytes'
>

export interface MeterOptions {
  readonly engine: ContainerEngine
  readonly id: string
  readonly group: TaskGroup | null
  /** Whether the container has a network at all. */
  readonly networked: boolean
  readonly logFolder: string
  readonly memoryBytes: number
  /** Told after each look; must not throw. */
  readonly onLook?: (activity: Activity) => void
}

/**
 * Follows what one container uses, from its start to its end: by its control group where there is one, whose counters
 * outlive it, else by asking the engine now and then.
 */
export class Meter {
  readonly #options: MeterOptions
  readonly #group: TaskGroup | null
  readonly #network: NetworkCounters | null
  readonly #timers: readonly NodeJS.Timeout[]
  /** A process of the container's, as this process sees it; null where it can't. */
  readonly pid: number | null
  #figures: Figures = NO_FIGURES
  /** What the engine said last, where it is asked. */
  #told: ContainerUsage | null = null
  #networkTotals: NetworkTotals | null = null
  readonly #since = monotonicMs()
  #looking: Promise<void> = Promise.resolve()
  #busy = false
  #muchMemory = false
  #ended = false

  /** To be made as soon as the container runs. */
  constructor(options: MeterOptions) {
    this.#options = options
    const pid = options.group?.attach(options.id) ?? null
    this.pid = typeof pid === 'number' ? pid : null
    const group = pid === 'elsewhere' ? null : options.group
    this.#group = group
    this.#network = typeof pid === 'number' && options.networked ? NetworkCounters.open(pid) : null
    this.#timers = [
      setTimeout(() => this.#tick(), FIRST_LOOK_MS),
      setInterval(() => this.#tick(), this.#group ? GROUP_MS : ENGINE_MS),
      ...(group?.countsOomKills === false ? [setInterval(() => this.#watchOom(group), OOM_MS)] : []),
      ...(this.#network ? [setInterval(() => this.#readNetwork(), NETWORK_MS)] : []),
    ]
  }

  get figures(): Figures {
    return this.#figures
  }

  measured(): Measured {
    const { cpuNs, memoryPeakBytes, pidsPeak } = this.#figures
    const network = this.#options.networked ? this.#networkTotals : { rxBytes: 0, txBytes: 0 }
    return {
      cpuMs: cpuNs === null ? null : Math.round(cpuNs / 1e6),
      memoryPeakBytes,
      pidsPeak,
      networkRxBytes: network?.rxBytes ?? null,
      networkTxBytes: network?.txBytes ?? null,
    }
  }

  /** As it is at this moment where there is a group, else as the engine last said. */
  current(): CurrentUse {
    if (this.#group) return this.#group.readCurrent()
    const { figures, memoryBytes } = this.#told ?? { figures: NO_FIGURES, memoryBytes: null }
    return { cpuNs: figures.cpuNs, memoryBytes, pids: figures.pidsPeak }
  }

  /** Reads what there is to read after the container's end. Repeatable. */
  async finish(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    for (const timer of this.#timers) clearTimeout(timer)
    await this.#looking
    if (this.#group) this.#readGroup(this.#group)
    this.#group?.rest()
    this.#network?.close()
  }

  #tick(): void {
    if (this.#busy) return
    this.#busy = true
    this.#looking = this.#look().finally(() => {
      this.#busy = false
    })
  }

  async #look(): Promise<void> {
    if (this.#group) this.#readGroup(this.#group)
    else await this.#askEngine().catch(() => undefined)
    if (!this.#options.onLook || this.#ended) return
    const logBytes = await sizeOfLog(this.#options.logFolder)
    const { cpuNs, ioOperations } = this.#figures
    const network = this.#networkTotals
    if (!this.#ended)
      this.#options.onLook({
        cpuNs,
        ioOperations,
        networkBytes: network && network.rxBytes + network.txBytes,
        logBytes,
      })
  }

  #readGroup(group: TaskGroup): void {
    this.#figures = mergeFigures(this.#figures, group.read())
    this.#muchMemory = (group.readMemory() ?? 0) > this.#options.memoryBytes * MUCH
    this.#readNetwork()
  }

  #watchOom(group: TaskGroup): void {
    if (!this.#muchMemory && monotonicMs() - this.#since > YOUNG_MS) return
    const oomKills = group.readOomKills()
    if (oomKills !== null && oomKills > (this.#figures.oomKills ?? 0))
      this.#figures = mergeFigures(this.#figures, { ...NO_FIGURES, oomKills })
  }

  #readNetwork(): void {
    this.#networkTotals = this.#network?.read() ?? this.#networkTotals
  }

  async #askEngine(): Promise<void> {
    const { engine, id } = this.#options
    const usage = await engine.usage(id)
    if (usage === null) return
    this.#told = usage
    this.#figures = mergeFigures(this.#figures, usage.figures)
    this.#networkTotals = usage.network ?? this.#networkTotals
  }
}

async function sizeOfLog(folder: string): Promise<number> {
  const sizes = await Promise.all(
    ['o', 'e'].map(name =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}
