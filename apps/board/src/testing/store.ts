import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import {
  LEASE_MS,
  RETENTION_SECONDS,
  type RedisNames,
  type Stored,
  scripts,
  type TaskResult,
  type WorkerRecord,
} from '@agirunner/contracts'
import type { Redis } from 'ioredis'

/** Plays a worker's part in Redis for one task; no engine is needed. */
export class PlayedTask {
  readonly #redis: Redis
  readonly #names: RedisNames
  readonly #taskId: string
  #fence = ''
  #seq = 0

  constructor(redis: Redis, names: RedisNames, taskId: string) {
    this.#redis = redis
    this.#names = names
    this.#taskId = taskId
  }

  /** Starts an attempt of the worker `w-1`. */
  async begin(): Promise<void> {
    const { record, result, lease, fence, cancel } = this.#names
    const id = this.#taskId
    const keys = [record(id), result(id), lease(id), fence, cancel(id)]
    const reply = await this.#redis.eval(scripts.BEGIN_ATTEMPT, 5, ...keys, 'w-1', now(), LEASE_MS)
    this.#fence = String((reply as unknown[])[1])
  }

  async log(text: string, stream: 'stdout' | 'stderr' = 'stdout'): Promise<void> {
    this.#seq += 1
    const entry = {
      taskId: this.#taskId,
      attempt: 1,
      seq: this.#seq,
      at: now(),
      stream,
      step: null,
      offset: 0,
    }
    const { record, log } = this.#names
    const keys = [record(this.#taskId), log(this.#taskId)]
    await this.#redis.eval(
      scripts.APPEND_LOG,
      2,
      ...keys,
      this.#fence,
      this.#seq,
      JSON.stringify(entry),
      text,
    )
  }

  async event(data: Record<string, unknown>): Promise<void> {
    const { record, events } = this.#names
    const keys = [record(this.#taskId), events(this.#taskId)]
    const event = this.#event('phase.progress', data)
    await this.#redis.eval(scripts.APPEND_EVENTS, 2, ...keys, this.#fence, JSON.stringify(event))
  }

  /** Writes the result, and with it the end of both streams. */
  async finish(changes: Partial<TaskResult> = {}): Promise<void> {
    const { record, result, events, log, doneChannel } = this.#names
    const id = this.#taskId
    const seq = await this.#redis.hincrby(record(id), 'eventSeq', 1)
    await this.#redis
      .multi()
      .hset(record(id), 'state', 'finished')
      .set(result(id), JSON.stringify(resultOf(id, changes)), 'EX', RETENTION_SECONDS)
      .xadd(events(id), `${seq}-0`, 'e', JSON.stringify(this.#event('task.finished', {})))
      .xadd(log(id), '*', 'end', '1')
      .publish(doneChannel, id)
      .exec()
  }

  #event(type: string, data: Record<string, unknown>) {
    return { version: 1, taskId: this.#taskId, attempt: 1, at: now(), type, phase: 'run', data }
  }
}

function resultOf(taskId: string, changes: Partial<TaskResult> = {}): TaskResult {
  const nothing = {
    failure: null,
    startedAt: null,
    attempts: [],
    exit: null,
    steps: [],
    base: null,
    changes: null,
  }
  const unused = { output: null, artifacts: [], skipped: [], logs: null, egressDenied: [], container: null }
  return {
    version: 1,
    taskId,
    tenantId: 'acme',
    labels: {},
    status: 'succeeded',
    createdAt: now(),
    finishedAt: now(),
    ...nothing,
    ...unused,
    usage: {} as TaskResult['usage'],
    timings: {} as TaskResult['timings'],
    worker: { id: 'w-1', host: 'here' },
    ...changes,
  }
}

/** A file as a worker stores it on its disk. */
export async function store(folder: string, name: string, bytes: Buffer): Promise<Stored> {
  const file = join(folder, name)
  await writeFile(file, bytes)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  return { uri: pathToFileURL(file).href, sizeBytes: bytes.length, sha256 }
}

/** What a worker tells of itself, until it expires. */
export async function beat(
  redis: Redis,
  names: RedisNames,
  record: Partial<WorkerRecord> & { id: string },
  lifeMs: number = LEASE_MS,
): Promise<void> {
  const whole: WorkerRecord = {
    host: 'here',
    pid: 1,
    startedAt: now(),
    at: now(),
    state: 'idle',
    concurrency: 4,
    running: [],
    strategy: 'late_overlay',
    engine: 'docker',
    ...record,
  }
  await redis
    .multi()
    .set(names.worker(whole.id), JSON.stringify(whole), 'PX', lifeMs)
    .sadd(names.workers, whole.id)
    .exec()
}

function now(): string {
  return new Date().toISOString()
}
