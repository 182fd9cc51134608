import { type LogEntry, type RedisNames, scripts } from '@agirunner/contracts'
import type { Redis } from 'ioredis'

/** The largest text of one entry, in bytes of UTF-8. */
const ENTRY_BYTES = 16 * 1024
/** How much may wait for Redis before the reader has to; in bytes. */
const PENDING_BYTES = 1024 * 1024

/**
 * Writes an attempt's log to its Redis stream. Batches grow by themselves: one is on its way at a time, and what
 * arrives meanwhile is the next.
 */
export class LogStream {
  readonly #redis: Redis
  readonly #keys: [string, string]
  readonly #task: { taskId: string; attempt: number; fence: number }
  #seq: number
  #pending: [number, string][] = []
  #pendingBytes = 0
  #sending: Promise<void> | null = null

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

  /** Adds whole characters; resolves when there is room for more. */
  async write(chunk: {
    stream: LogEntry['stream']
    step: string | null
    offset: number
    bytes: Buffer
  }): Promise<void> {
    for (let start = 0; start < chunk.bytes.length; ) {
      const part = chunk.bytes.subarray(start, start + ENTRY_BYTES)
      const end = start + ENTRY_BYTES < chunk.bytes.length ? part.length - incompleteTail(part) : part.length
      const bytes = part.subarray(0, end || part.length)
      this.#add({ ...chunk, offset: chunk.offset + start, bytes })
      start += bytes.length
    }
    this.#send()
    while (this.#pendingBytes > PENDING_BYTES && this.#sending) await this.#sending
  }

  /** Resolves when Redis has everything. */
  async flush(): Promise<void> {
    this.#send()
    while (this.#sending) await this.#sending
  }

  #add(chunk: { stream: LogEntry['stream']; step: string | null; offset: number; bytes: Buffer }): void {
    this.#seq += 1
    const entry: LogEntry = {
      taskId: this.#task.taskId,
      attempt: this.#task.attempt,
      seq: this.#seq,
      at: new Date().toISOString(),
      stream: chunk.stream,
      step: chunk.step,
      offset: chunk.offset,
      text: chunk.bytes.toString('utf8'),
    }
    this.#pending.push([this.#seq, JSON.stringify(entry)])
    this.#pendingBytes += chunk.bytes.length
  }

  #send(): void {
    if (this.#sending || this.#pending.length === 0) return
    const batch = this.#pending
    this.#pending = []
    this.#pendingBytes = 0
    this.#sending = this.#redis
      .eval(scripts.APPEND_LOG, 2, ...this.#keys, this.#task.fence, ...batch.flat())
      .then(() => undefined)
      .finally(() => {
        this.#sending = null
        this.#send()
      })
    // Whoever flushes sees the rejection.
    this.#sending.catch(() => undefined)
  }
}

/** How many bytes at the end begin a UTF-8 character that is not whole: 0 to 3. Bytes that never were UTF-8 count 0. */
export function incompleteTail(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0
    if ((byte & 0b1100_0000) === 0b1000_0000) continue
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
    return length > back ? back : 0
  }
  return 0
}
