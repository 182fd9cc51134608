import type { NewEvent, TaskResult } from '@agirunner/contracts'
import type { TaskRecords } from '../intake/records.js'
import type { Log } from '../support/log.js'
import { messageOf } from '../support/log.js'

/** How long an event waits for others to go with it, in milliseconds: between claim and first output there are a dozen. */
const TOGETHER_MS = 5

/**
 * Sends an attempt's events to Redis in their order, without making the attempt wait: what arrives shortly after one, or
 * while a batch is under way, goes with it or with the next.
 */
export class EventWriter {
  readonly #records: TaskRecords
  readonly #taskId: string
  readonly #fence: number
  readonly #log: Log
  #pending: NewEvent[] = []
  #timer: NodeJS.Timeout | null = null
  #sending: Promise<void> | null = null

  constructor(records: TaskRecords, task: { taskId: string; fence: number }, log: Log) {
    this.#records = records
    this.#taskId = task.taskId
    this.#fence = task.fence
    this.#log = log
  }

  readonly emit = (event: NewEvent): void => {
    this.#pending.push(event)
    this.#timer ??= setTimeout(() => this.#send(), TOGETHER_MS)
  }

  /** Resolves when Redis has every event so far, or has refused them. */
  async flush(): Promise<void> {
    do {
      this.#send()
      await this.#sending
    } while (this.#pending.length > 0 || this.#sending)
  }

  /** What was not sent yet, and will not be sent from here. */
  take(): NewEvent[] {
    const taken = this.#pending
    this.#pending = []
    return taken
  }

  #send(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    if (this.#pending.length > 0) this.#sending ??= this.#drain()
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
      if (this.#pending.length > 0) this.#timer ??= setTimeout(() => this.#send(), TOGETHER_MS)
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
