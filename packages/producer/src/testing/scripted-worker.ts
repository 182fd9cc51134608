import {
  endOf,
  LEASE_MS,
  type LogEntry,
  type NewEvent,
  RETENTION_SECONDS,
  redisNames,
  scripts,
  type TaskResult,
  type WorkerRecord,
} from '@agirunner/contracts'
import type { Redis } from 'ioredis'

/**
 * Plays a worker's part in Redis, by the same scripts and one step at a time, for tests of what a platform makes of
 * logs, events and results; no container engine is needed.
 *
 * @example
 * const worker = new ScriptedWorker(redis, 'my-queue', 't-42')
 * await worker.begin()
 * await worker.log('hello\n')
 * await worker.finish({ status: 'failed' })
 */
export class ScriptedWorker {
  readonly #redis: Redis
  readonly #queue: string
  readonly #taskId: string
  #fence = ''
  #attempt = 0
  #logSeq = 0

  constructor(redis: Redis, queue: string, taskId: string) {
    this.#redis = redis
    this.#queue = queue
    this.#taskId = taskId
  }

  /** Takes the lease and starts an attempt. */
  async begin(): Promise<void> {
    const names = redisNames(this.#queue)
    const keys = [
      names.record(this.#taskId),
      names.result(this.#taskId),
      names.lease(this.#taskId),
      names.fence,
      names.cancel(this.#taskId),
    ]
    const reply = await this.#redis.eval(scripts.BEGIN_ATTEMPT, 5, ...keys, 'w-test', now(), LEASE_MS)
    const [verdict, fence, attempt] = reply as [string, number, number]
    if (verdict !== 'started') throw new Error(`the attempt did not start: ${verdict}`)
    this.#fence = String(fence)
    this.#attempt = attempt
  }

  async log(text: string, stream: LogEntry['stream'] = 'stdout'): Promise<void> {
    this.#logSeq += 1
    const seq = this.#logSeq
    const entry = {
      taskId: this.#taskId,
      attempt: this.#attempt,
      seq,
      at: now(),
      stream,
      step: null,
      offset: 0,
      text,
    }
    await this.#redis.xadd(redisNames(this.#queue).log(this.#taskId), `${seq}-0`, 'e', JSON.stringify(entry))
  }

  async event(type: NewEvent['type'], phase: NewEvent['phase'], data: NewEvent['data'] = {}): Promise<void> {
    const names = redisNames(this.#queue)
    const keys = [names.record(this.#taskId), names.events(this.#taskId)]
    await this.#redis.eval(scripts.APPEND_EVENTS, 2, ...keys, this.#fence, this.#event(type, phase, data))
  }

  /** Writes the result, the last event and the end of the log. */
  async finish(changes: Partial<TaskResult> = {}): Promise<TaskResult> {
    const names = redisNames(this.#queue)
    const id = this.#taskId
    const result = resultOf(id, changes)
    const end = endOf(result, names)
    const keys = [
      names.record(id),
      names.result(id),
      names.events(id),
      names.log(id),
      names.lease(id),
      names.cancel(id),
      ...end.keys,
    ]
    const event = this.#event('task.finished', 'report', { status: result.status })
    const values = [this.#fence, JSON.stringify(result), this.#attempt, '', RETENTION_SECONDS]
    const verdict = await this.#redis.eval(
      scripts.FINISH,
      keys.length,
      ...keys,
      ...values,
      names.doneChannel,
      id,
      ...end.values,
      event,
    )
    if (verdict !== 'written') throw new Error(`the result was not written: ${String(verdict)}`)
    return result
  }

  #event(type: NewEvent['type'], phase: NewEvent['phase'], data: NewEvent['data']): string {
    const event: NewEvent = {
      version: 1,
      taskId: this.#taskId,
      attempt: this.#attempt,
      at: now(),
      type,
      phase,
      data,
    }
    return JSON.stringify(event)
  }
}

/** Makes a worker seem alive for 15 s. */
export async function announceWorker(redis: Redis, queue: string, id: string): Promise<WorkerRecord> {
  const names = redisNames(queue)
  const record: WorkerRecord = {
    id,
    host: 'test',
    pid: process.pid,
    startedAt: now(),
    state: 'idle',
    concurrency: 2,
    running: [],
    strategy: 'dummy',
    engine: 'dummy',
  }
  await redis.sadd(names.workers, id)
  await redis.set(names.worker(id), JSON.stringify(record), 'PX', LEASE_MS)
  return record
}

/** A whole result with `changes` put over it; it succeeded unless they say otherwise. */
export function resultOf(taskId: string, changes: Partial<TaskResult> = {}): TaskResult {
  return {
    version: 1,
    taskId,
    tenantId: 'default',
    labels: {},
    status: 'succeeded',
    failure: null,
    createdAt: now(),
    startedAt: now(),
    finishedAt: now(),
    attempts: [],
    exit: { code: 0, signal: null, oomKilled: false, cause: 'exited' },
    steps: [],
    base: null,
    changes: null,
    output: null,
    artifacts: [],
    skipped: [],
    logs: null,
    usage: {
      wallMs: null,
      cpuMs: null,
      memoryPeakBytes: null,
      pidsPeak: null,
      networkRxBytes: null,
      networkTxBytes: null,
      diskBytes: null,
    },
    timings: {
      queuedMs: 1,
      workspaceMs: 12,
      imageMs: 0,
      createMs: 3,
      startMs: 4,
      bootstrapMs: null,
      runMs: 250,
      captureMs: 7,
      reportMs: 2,
    },
    egressDenied: [],
    container: null,
    worker: { id: 'w-test', host: 'test' },
    ...changes,
  }
}

function now(): string {
  return new Date().toISOString()
}
