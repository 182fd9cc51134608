import type { NewEvent, TaskResult } from '@agirunner/contracts'
import type { TaskRecords } from '../intake/records.js'
import type { Log } from '../support/log.js'
import { messageOf } from '../support/log.js'

/**
 * Sends an attempt's events to Redis in their order, without making the attempt wait: what arrives while a batch is
 * under way goes with the next.
 */
export class EventWriter {
  readonly #records: TaskRecords
  readonly #taskId: string
  readonly #fence: number
  readonly #log: Log
  #pending: NewEvent[] = []
  #sending: Promise<void> | null = null

  constructor(records: TaskRecords, task: { taskId: string; fence: number }, log: Log) {
    this.#records = records
    this.#taskId = task.taskId
    this.#fence = task.fence
    this.#log = log
  }

  readonly emit = (event: NewEvent): void => {
    this.#pending.push(event)
    // The phases of one turn of the loop travel together.
    if (!this.#sending) this.#sending = Promise.resolve().then(() => this.#drain())
  }

  /** Resolves when Redis has every event so far, or has refused them. */
  async flush(): Promise<void> {
    while (this.#sending) await this.#sending
  }

  /** What was not sent yet, and will not be sent from here. */
  take(): NewEvent[] {
    const taken = this.#pending
    this.#pending = []
    return taken
  }

  async #drain(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        const batch = this.#pending
        this.#pending = []
        await this.#records.appendEvents(this.#taskId, this.#fence, batch)
      }
    } catch (error) {
      this.#log.warn('events: could not be written', { taskId: this.#taskId, reason: messageOf(error) })
    } finally {
      this.#sending = null
      if (this.#pending.length > 0) this.#sending = Promise.resolve().then(() => this.#drain())
    }
  }
}

/** The last event of a task; `attempt` is 0 where none began. */
export function finishedEvent(result: TaskResult, attempt: number): NewEvent {
  return {
    version: 1,
    taskId: result.taskId,
    attempt,
    at: result.finishedAt,
    type: 'task.finished',
    phase: 'report',
    data: { status: result.status, failure: result.failure?.code ?? null },
  }
}
