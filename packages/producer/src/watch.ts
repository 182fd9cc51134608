import type { TaskResult } from '@agirunner/contracts'
import type { Redis } from 'ioredis'
import { type Connection, PATIENCE_MS } from './connection.js'
import { ProducerClosedError, RedisUnavailableError } from './errors.js'

/** A message can be lost with a connection that died silently; so waiters also look by themselves, in milliseconds. */
const LOOK_MS = 10_000

interface Waiter {
  resolve(result: TaskResult): void
  reject(error: unknown): void
}

/**
 * Waits for results. All waiters share one subscription: its messages, its reconnects and a slow timer are only
 * reasons to look again, so a lost message delays a result and never loses it.
 */
export class ResultWatcher {
  readonly #connection: Connection
  readonly #channel: string
  readonly #read: (taskId: string) => Promise<TaskResult | null>
  readonly #waiters = new Map<string, Set<Waiter>>()
  #subscriber: Redis | null = null
  #timer: NodeJS.Timeout | null = null
  #awaySince: number | null = null

  /** @param read gives a task's result, null before its end; rejects for an unknown task */
  constructor(connection: Connection, channel: string, read: (taskId: string) => Promise<TaskResult | null>) {
    this.#connection = connection
    this.#channel = channel
    this.#read = read
  }

  /** @throws UnknownTaskError, RedisUnavailableError, the signal's reason */
  async wait(taskId: string, signal?: AbortSignal): Promise<TaskResult> {
    signal?.throwIfAborted()
    // Registered before the first look: whatever comes after that look is a reason for another one.
    const waiting = deferredResult()
    const onAbort = () => waiting.reject(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#add(taskId, waiting)
    try {
      const [result] = await Promise.all([waiting.promise, this.#lookFirst(taskId, waiting)])
      return result
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#remove(taskId, waiting)
    }
  }

  close(): void {
    for (const taskId of this.#waiters.keys())
      this.#settle(taskId, waiter => waiter.reject(new ProducerClosedError()))
    this.#stop()
    this.#subscriber?.disconnect()
    this.#subscriber = null
  }

  async #lookFirst(taskId: string, waiter: Waiter): Promise<void> {
    try {
      const result = await this.#read(taskId)
      if (result) waiter.resolve(result)
      else this.#subscribe()
    } catch (error) {
      waiter.reject(error)
    }
  }

  #add(taskId: string, waiter: Waiter): void {
    const waiters = this.#waiters.get(taskId) ?? new Set()
    this.#waiters.set(taskId, waiters.add(waiter))
    this.#timer ??= setInterval(() => void this.#lookAtAll(), LOOK_MS)
  }

  #remove(taskId: string, waiter: Waiter): void {
    const waiters = this.#waiters.get(taskId)
    waiters?.delete(waiter)
    if (waiters?.size === 0) this.#waiters.delete(taskId)
    if (this.#waiters.size === 0) this.#stop()
  }

  #stop(): void {
    if (this.#timer) clearInterval(this.#timer)
    this.#timer = null
    this.#awaySince = null
  }

  #subscribe(): void {
    if (this.#subscriber) return
    // Resubscribing is done here and not by ioredis, so that the look comes after Redis has confirmed it.
    const subscriber = this.#connection.duplicate({
      autoResubscribe: false,
      commandTimeout: undefined,
      socketTimeout: undefined,
    })
    this.#subscriber = subscriber
    const start = () => {
      subscriber.subscribe(this.#channel).then(
        () => this.#lookAtAll(),
        // The connection broke again: the next one starts over.
        () => undefined,
      )
    }
    subscriber.on('ready', start)
    subscriber.on('message', (_channel, taskId) => void this.#look(taskId))
  }

  async #lookAtAll(): Promise<void> {
    await Promise.all([...this.#waiters.keys()].map(taskId => this.#look(taskId)))
  }

  async #look(taskId: string): Promise<void> {
    if (!this.#waiters.has(taskId)) return
    try {
      const result = await this.#read(taskId)
      this.#awaySince = null
      if (result) this.#settle(taskId, waiter => waiter.resolve(result))
    } catch (error) {
      if (this.#isPatient(error)) return
      this.#settle(taskId, waiter => waiter.reject(error))
    }
  }

  /** A Redis that restarts is waited for, for a while. */
  #isPatient(error: unknown): boolean {
    if (!(error instanceof RedisUnavailableError)) return false
    this.#awaySince ??= performance.now()
    return performance.now() - this.#awaySince < PATIENCE_MS
  }

  #settle(taskId: string, how: (waiter: Waiter) => void): void {
    for (const waiter of this.#waiters.get(taskId) ?? []) how(waiter)
  }
}

/** A promise and its two ends; Promise.withResolvers is not in Node 20. */
function deferredResult(): Waiter & { readonly promise: Promise<TaskResult> } {
  let waiter: Waiter | undefined
  const promise = new Promise<TaskResult>((resolve, reject) => {
    waiter = { resolve, reject }
  })
  return { ...(waiter as Waiter), promise }
}
