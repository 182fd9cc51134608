import { type LogEntry, type RedisNames, scripts } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import type { LogPart } from './log-pipe.js'

/** How much may wait for Redis before the reader has to; in bytes. */
const PENDING_BYTES = 256 * 1024
/** What a batch keeps at most of memory to use it again, in bytes; it begins with less, and most tasks need no more. */
const ROOM_BYTES = 512 * 1024
const FIRST_ROOM_BYTES = 8 * 1024

/**
 * Writes an attempt's log to its Redis stream. Batches grow by themselves: one is on its way at a time, and what
 * arrives meanwhile is the next.
 */
export class LogStream {
  readonly #redis: Redis
  readonly #keys: [string, string]
  readonly #task: { taskId: string; attempt: number; fence: number }
  #seq: number
  #pending = new Batch()
  /** Used in turns with the other: it is empty while that one is filled or on its way. */
  #spare = new Batch()
  #sending: Promise<void> | null = null
  #abandoned = false
  #failure: Error | null = null

  /** @param isNew whether nobody can have written to it */
  static async open(
    redis: Redis,
    names: RedisNames,
    task: { taskId: string; attempt: number; fence: number },
    isNew: boolean,
  ): Promise<LogStream> {
    const [last] = isNew ? [] : await redis.xrevrange(names.log(task.taskId), '+', '-', 'COUNT', 1)
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
    while (this.#pending.bytes > PENDING_BYTES && this.#sending) await this.#sending
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
    this.#pending.clear()
    this.#abandoned = true
  }

  #add({ stream, step, offset, bytes }: LogPart): void {
    this.#seq += 1
    const { taskId, attempt } = this.#task
    const at = new Date().toISOString()
    const head: Omit<LogEntry, 'text'> = { taskId, attempt, seq: this.#seq, at, stream, step, offset }
    this.#pending.add(this.#seq, JSON.stringify(head), bytes)
  }

  #send(): void {
    if (this.#abandoned || this.#failure || this.#sending || this.#pending.bytes === 0) return
    const batch = this.#pending
    this.#pending = this.#spare
    this.#sending = this.#redis
      .eval(scripts.APPEND_LOG, 2, ...this.#keys, this.#task.fence, ...batch.entries)
      .catch((error: Error) => {
        this.#failure = error
      })
      .then(() => {
        // Only now: a connection that comes back sends what it has again.
        batch.clear()
        this.#spare = batch
        this.#sending = null
        this.#send()
      })
  }
}

/**
 * Entries that wait for Redis or are on their way. Their bytes are copied, because the reader uses its own again, into
 * memory that stays: with a buffer for each, a flood spent a third of the worker's time on collecting them.
 */
class Batch {
  /** Of each entry its seq, what it says beside its text, and that. */
  readonly entries: (number | string | Buffer)[] = []
  #bytes = 0
  #room = Buffer.alloc(0)
  #used = 0

  /** Of all texts. */
  get bytes(): number {
    return this.#bytes
  }

  add(seq: number, head: string, text: Buffer): void {
    this.entries.push(seq, head, this.#copy(text))
    this.#bytes += text.length
  }

  clear(): void {
    this.entries.length = 0
    this.#bytes = 0
    this.#used = 0
  }

  #copy(text: Buffer): Buffer {
    if (this.#used + text.length > this.#room.length) {
      // What is in the former one stays there until it was sent.
      const size = Math.min(ROOM_BYTES, Math.max(FIRST_ROOM_BYTES, 2 * this.#room.length))
      this.#room = Buffer.allocUnsafeSlow(Math.max(size, text.length))
      this.#used = 0
    }
    const from = this.#used
    this.#used += text.copy(this.#room, from)
    return this.#room.subarray(from, this.#used)
  }
}
