import type { TaskGroup, TaskGroups } from '../engine/cgroup/task-groups.js'
import type { ContainerEngine } from '../engine/engine.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { sleep } from '../support/lifecycle.js'
import type { CurrentUse } from '../support/roster.js'
import { IdleWatch } from './idle.js'
import type { Exit } from './running-container.js'
import { type Measured, Meter } from './usage.js'

/** An OOM kill needs usage at the limit; the kernel counts in batches, and stops short of it by at most this. In bytes. */
const OOM_MARGIN = 4 * 1024 ** 2
const OOM_LOOKS = 3
const OOM_LOOK_MS = 25

/**
 * What becomes known of a container's use of its limits: its control group, made before it, its meter, and the
 * evidence that its exit is judged by.
 */
export class Accounting {
  readonly #engine: ContainerEngine
  readonly #task: AcceptedTask['task']
  readonly #group: TaskGroup | null
  #meter: Meter | null = null
  #id = ''

  /** @param groups null where this worker can't make control groups */
  static async prepare(
    engine: ContainerEngine,
    groups: TaskGroups | null,
    task: AcceptedTask['task'],
    slot: string,
  ): Promise<Accounting> {
    const group = (await groups?.make(slot, task.environment.resources)) ?? null
    return new Accounting(engine, task, group)
  }

  /** Of a container that was there before the task, with its group. */
  static of(engine: ContainerEngine, task: AcceptedTask['task'], group: TaskGroup | null): Accounting {
    return new Accounting(engine, task, group)
  }

  /** Of a container that another worker made, by its id. */
  static adopt(
    engine: ContainerEngine,
    groups: TaskGroups | null,
    task: AcceptedTask['task'],
    made: { readonly slot: string; readonly worker: string },
  ): Accounting {
    const group = groups?.open(made.slot, made.worker, task.environment.resources) ?? null
    return new Accounting(engine, task, group)
  }

  private constructor(engine: ContainerEngine, task: AcceptedTask['task'], group: TaskGroup | null) {
    this.#engine = engine
    this.#task = task
    this.#group = group
  }

  /** What the container's spec says of it. */
  get spec(): { readonly cgroupParent?: string; readonly pids?: number } {
    return this.#group ? { cgroupParent: this.#group.parent, pids: this.#group.pids } : {}
  }

  /** To be called as soon as the container runs. @param onIdle called once it has done nothing for `limits.idleTimeout` */
  begin(id: string, logFolder: string, onIdle: () => void): void {
    const { idleTimeout } = this.#task.limits
    const watch = idleTimeout === null ? null : new IdleWatch(idleTimeout * 1000, onIdle)
    this.#id = id
    this.#meter = new Meter({
      engine: this.#engine,
      id,
      group: this.#group,
      networked: this.#task.environment.network.mode !== 'none',
      logFolder,
      memoryBytes: this.#task.environment.resources.memory,
      ...(watch ? { onLook: activity => watch.look(activity) } : {}),
    })
  }

  /** A process of the container's, as this process sees it; null where it can't, and before `begin`. */
  get pid(): number | null {
    return this.#meter?.pid ?? null
  }

  /** The exit with what the counters say of it. */
  async complete(exit: Exit): Promise<Exit> {
    await this.#meter?.finish()
    const figures = this.#meter?.figures
    return {
      ...exit,
      pidsExceeded: figures?.pidsExceeded ?? false,
      oomKilled: exit.oomKilled || (figures?.oomKills ?? 0) > 0 || (await this.#lateOom(exit)),
    }
  }

  /** Null before the container ran. */
  usage(): Measured | null {
    return this.#meter?.measured() ?? null
  }

  /** For who looks at the container now; null before it ran. */
  current(): CurrentUse | null {
    return this.#meter?.current() ?? null
  }

  /** Repeatable; the container must be gone. */
  async release(): Promise<void> {
    await this.#meter?.finish()
    await this.#group?.remove()
  }

  /**
   * Where the count of kills goes with the container, the last look may have come before the last kill. Then the kernel's log
   * or the engine may know, who notes it apart from the end, maybe after it, and now and then not at all. Only who came to
   * the limit can have been killed.
   */
  async #lateOom(exit: Exit): Promise<boolean> {
    const peak = this.#meter?.figures.memoryPeakBytes ?? 0
    if (exit.cause === 'lost' || this.#group?.countsOomKills) return false
    if (peak < this.#task.environment.resources.memory - OOM_MARGIN) return false
    if ((this.#group?.loggedOomKills() ?? 0) > 0) return true
    for (let looks = 0; looks < OOM_LOOKS; looks += 1) {
      if (await this.#engine.wasOutOfMemory(this.#id).catch(() => false)) return true
      await sleep(OOM_LOOK_MS)
    }
    return false
  }
}
