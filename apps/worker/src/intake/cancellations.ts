import { type RedisNames, TaskFailure } from '@agirunner/contracts'
import type { Channels } from './channels.js'
import type { TaskRecords } from './records.js'

type OnCancel = (failure: TaskFailure) => void

/**
 * Hears of cancels. A cancel is a key in Redis, which no lost message can undo, and a message, which makes it quick:
 * running tasks look at their key when they start and after each reconnect.
 */
export class Cancellations {
  readonly #records: TaskRecords
  readonly #running = new Map<string, Set<OnCancel>>()

  constructor(options: {
    channels: Channels
    names: RedisNames
    records: TaskRecords
    /** Told of a cancel of a task that does not run on this worker. */
    onElsewhere: (taskId: string) => void
  }) {
    this.#records = options.records
    options.channels.hear(options.names.cancelChannel, taskId => {
      if (this.#running.has(taskId)) void this.#check(taskId)
      else options.onElsewhere(taskId)
    })
    options.channels.onConnected(() => {
      for (const taskId of this.#running.keys()) void this.#check(taskId)
    })
  }

  /** Calls `cancel` once the task's cancel is asked for, at once when it already is. Stop with the returned function. */
  async watch(taskId: string, cancel: OnCancel): Promise<() => void> {
    const stop = this.listen(taskId, cancel)
    await this.#check(taskId)
    return stop
  }

  /** As `watch`, for who asks itself whether it already is, after this. */
  listen(taskId: string, cancel: OnCancel): () => void {
    const listeners = this.#running.get(taskId) ?? new Set()
    this.#running.set(taskId, listeners.add(cancel))
    return () => {
      listeners.delete(cancel)
      if (listeners.size === 0 && this.#running.get(taskId) === listeners) this.#running.delete(taskId)
    }
  }

  async #check(taskId: string): Promise<void> {
    const reason = await this.#records.cancelReason(taskId)
    if (reason === null) return
    for (const cancel of this.#running.get(taskId) ?? []) cancel(canceledFailure(reason))
  }
}

export function canceledFailure(reason: string): TaskFailure {
  return new TaskFailure(
    'task.canceled',
    reason === '' ? 'the task was canceled' : `the task was canceled: ${reason}`,
  )
}
