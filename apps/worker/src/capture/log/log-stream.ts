import { type LogEntry, type RedisNames, scripts } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import type { LogPart } from './log-pipe.js'

/** How much may wait for Redis before the reader has to; in bytes. */
const PENDING_BYTES = 512 * 1024

/**
 * Writes an attempt's log to its Redis stream. Batches grow by themselves: one is on its way at a time, and what
 * arrives meanwhile is the next.
 */
export class LogStream {
  readonly #redis: Redis
  readonly #keys: [string, string]
  readonly #task: { taskId: string; attempt: number; fence: number }
  #seq: number
  /** Of each entry its seq, what it says beside its text, and that. */
  #pending: [number, string, Buffer][] = []
  #pendingBytes = 0
  #sending: Promise<void> | null = null
  #abandoned = false
  #failure: Error | null = null

  static async open(
    redis: Redis,
    names: RedisNames,
    task: { taskId: string; attempt: number; fence: number },
  ): Promise<LogStream> {
    const [last] = await redis.xrevrange(names.log(task.taskId), '+', '-', 'COUNT', 1)
    return new LogStream(redis, names, task, last ? Number(last[0].split('-')[0]) : 0)
  }

  private constructor(
    redis: Redis,
    names: RedisNames,
    task: { taskId: string; attempt: number; fence: number },
    seq: number,
  ) {
    this.#redis = redis
    this.#keys = [names.record(task.taskId), names.log(task.taskId)]
    this.#task = task
    this.#seq = seq
  }

  /** Of the last entry. */
  get seq(): number {
    return this.#seq
  }

  /**
   * Adds an entry for each part that shows anything; resolves when there is room for more.
   *
   * @throws what Redis said to any entry before: nothing is sent after one that it refused
   */
  async write(parts: readonly LogPart[]): Promise<void> {
    for (const part of parts) if (part.bytes.length > 0) this.#add(part)
    this.#send()
    while (this.#pendingBytes > PENDING_BYTES && this.#sending) await this.#sending
    if (this.#failure !== null) throw this.#failure
  }

  /** Resolves when Redis has everything. @throws what it refused an entry with, also long ago */
  async flush(): Promise<void> {
    this.#send()
    while (this.#sending) await this.#sending
    if (this.#failure !== null) throw this.#failure
  }

  /** Sends nothing more than what is on its way. */
  abandon(): void {
    this.#pending = []
    this.#abandoned = true
  }

  #add({ stream, step, offset, bytes }: LogPart): void {
    this.#seq += 1
    const { taskId, attempt } = this.#task
    const at = new Date().toISOString()
    const head: Omit<LogEntry, 'text'> = { taskId, attempt, seq: this.#seq, at, stream, step, offset }
    // A copy: the part's bytes are used again before Redis has them.
    this.#pending.push([this.#seq, JSON.stringify(head), Buffer.from(bytes)])
    this.#pendingBytes += bytes.length
  }

  #send(): void {
    if (this.#abandoned || this.#failure || this.#sending || this.#pending.length === 0) return
    const batch = this.#pending
    this.#pending = []
    this.#pendingBytes = 0
    this.#sending = this.#redis
      .eval(scripts.APPEND_LOG, 2, ...this.#keys, this.#task.fence, ...batch.flat())
      .catch((error: Error) => {
        this.#failure = error
      })
      .then(() => {
        this.#sending = null
        this.#send()
      })
  }
}
