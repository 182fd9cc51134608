import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { KeepRequest, TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine } from '../engine/engine.js'
import { keptName } from '../engine/labels.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { type Log, messageOf } from '../support/log.js'
import type { RunningContainer } from './running-container.js'

export interface KeeperOptions {
  readonly engine: ContainerEngine
  readonly log: Log
  /** What an operator wants of a task's container; null for nothing. */
  readonly request: (taskId: string) => Promise<KeepRequest | null>
  /** Told the slot of a container that is kept from now on. */
  readonly kept: (slot: string) => void
  /** The longest that anything is kept, in milliseconds; 0 for not at all. */
  readonly maxMs: number
}

/** Waits to be looked into, and ends at once when it is told to. */
const KEEP_SCRIPT = `trap 'exit 0' TERM INT\nwhile :; do sleep 3600 & wait; done\n`
/** The operator's deadline for making a container one that is kept. */
const KEEP_MS = 30_000

/**
 * Keeps the container of a task that has ended, with its workspace, so that somebody can look into it: it is started
 * again with a gate that only waits. What ran has ended, and what was in /tmp is gone; everything on its disks is as the
 * task left it. It gets no network. The reaper removes it when its time is over, whatever became of the worker.
 */
export class Keeper {
  readonly #options: KeeperOptions

  constructor(options: KeeperOptions) {
    this.#options = options
  }

  /**
   * Keeps it if somebody asked for that.
   *
   * @param container has ended, and its outputs are captured
   * @returns whether it is the reaper's now, with its workspace; what fails is logged, and then it is not
   */
  async keep(
    { task }: AcceptedTask,
    container: RunningContainer,
    failure: TaskFailure | null,
  ): Promise<boolean> {
    const { log } = this.#options
    // What was canceled is gone already: the result says so.
    if (failure?.code === 'task.canceled') return false
    try {
      const forMs = await this.#wanted(task.taskId, failure)
      if (forMs === 0) return false
      await this.#restart(container)
      // Last, because with that name it is the reaper's.
      await this.#options.engine.rename(container.id, keptName(container.name, Date.now() + forMs))
      this.#options.kept(container.plan.slot.id)
      log.info('container kept', { taskId: task.taskId, container: container.id, forMs })
      return true
    } catch (error) {
      log.warn('the container could not be kept', { taskId: task.taskId, reason: messageOf(error) })
      return false
    }
  }

  async #wanted(taskId: string, failure: TaskFailure | null): Promise<number> {
    const request = await this.#options.request(taskId)
    if (request === null || (request.when === 'failure' && failure === null)) return 0
    return Math.min(request.forMs, this.#options.maxMs)
  }

  async #restart(container: RunningContainer): Promise<void> {
    const { id, plan } = container
    const { engine } = this.#options
    const script = join(plan.slot.gate, 'f')
    await writeFile(`${script}.new`, KEEP_SCRIPT, { mode: 0o444 })
    await rename(`${script}.new`, script)
    await plan.delivery.sendGate(AbortSignal.timeout(KEEP_MS))
    await engine.start(id)
    await container.leaveNetwork()
  }
}
