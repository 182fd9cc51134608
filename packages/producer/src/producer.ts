import {
  ACTIVITY_SECONDS,
  type ActivityMinute,
  activityOf,
  DEFAULT_QUEUE,
  type EndedTask,
  type KeepRequest,
  type LiveContainer,
  type LogEntry,
  logEntryOf,
  minuteOf,
  type NewEvent,
  RECENT_TASKS,
  RETENTION_SECONDS,
  type RedisNames,
  redisNames,
  type TaskEvent,
  type TaskResult,
  type WorkerRecord,
} from '@agirunner/contracts'
import { ObjectStore, type StorageOptions, storageSettings } from '@agirunner/storage'
import type { RedisOptions } from 'ioredis'
import { readArtifact } from './artifact.js'
import { Connection } from './connection.js'
import { type WatchOptions, watchContainers } from './containers.js'
import { type Enqueued, Enqueuer, replies } from './enqueue.js'
import { UnknownTaskError } from './errors.js'
import { type Decoded, type FollowOptions, followStream } from './follow.js'
import { readPatch } from './patch.js'
import { prepareTask, prepareTasks, type SendableTask } from './prepare.js'
import { ResultWatcher } from './watch.js'

export interface ProducerOptions {
  /** An address such as `redis://user:password@host:6379/0`, or ioredis options (without `keyPrefix`). */
  readonly redis: string | RedisOptions
  /** The queue's name; `agirunner` by default. */
  readonly queue?: string
  /**
   * The bucket that the workers store in, for `patch` and `artifact`: `{ url: 's3://bucket/prefix', endpoint, region,
   * pathStyle, credentials }`, all but `url` optional. Without it they read from this machine's disk alone.
   */
  readonly storage?: StorageOptions
}

/**
 * What a platform does with the runtime. Every call can be repeated. Each rejects with RedisUnavailableError within
 * about two seconds when Redis can't be reached (three when it is there and does not answer), and with
 * ProducerClosedError after `close()`.
 */
export interface Producer {
  /**
   * Puts a task into the queue. The same taskId with the same content is a no-op.
   *
   * @param task the task as an object or as JSON text
   * @throws SpecError with every problem of the task; nothing was sent
   * @throws TaskConflictError when the taskId is taken by a task with other content
   *
   * @example
   * const { status } = await producer.enqueue({ taskId: 't-42', run: { script: 'make test' } }) // 'created' or 'same'
   */
  enqueue(task: SendableTask): Promise<Enqueued>

  /**
   * Puts many tasks into the queue, fast and in order. All are checked before the first is sent.
   *
   * @throws SpecError with every problem of every task; none was sent
   * @throws TaskConflictError naming every taskId that is taken; none was sent, unless another producer took an id
   *   between the check and the sending: then the others were
   *
   * @example
   * await producer.enqueueMany(names.map(name => ({ taskId: `test-${name}`, run: { command: ['npm', 'test', name] } })))
   */
  enqueueMany(tasks: readonly SendableTask[]): Promise<Enqueued[]>

  /**
   * Asks for a task to be canceled; its result then has the status `canceled`. The first reason stays.
   *
   * @returns `requested`, `already` when it was asked for before, or `finished` when it is too late
   * @throws UnknownTaskError
   *
   * @example await producer.cancel('t-42', 'the user closed the page')
   */
  cancel(taskId: string, reason?: string): Promise<'requested' | 'already' | 'finished'>

  /**
   * Asks for a task's container to outlast the task, so that an operator can look into it with `agirunner exec`. The
   * last request counts; a worker grants it up to its AGIRUNNER_MAX_KEEP. A canceled task's container is never kept.
   *
   * @param request null takes an earlier request back
   * @returns `finished` when it is too late to ask
   * @throws UnknownTaskError
   *
   * @example await producer.keep('t-42', { forMs: 3600_000, when: 'failure' })
   */
  keep(taskId: string, request: KeepRequest | null): Promise<'requested' | 'finished'>

  /**
   * The result of a task, null while it is not finished.
   *
   * @throws UnknownTaskError
   *
   * @example const result = await producer.result('t-42')
   */
  result(taskId: string): Promise<TaskResult | null>

  /**
   * Waits for the result of a task, as long as it takes. A Redis that goes away while it waits is given a minute.
   *
   * @throws UnknownTaskError, or the signal's reason when it is aborted
   *
   * @example const result = await producer.waitForResult('t-42', { signal: AbortSignal.timeout(60_000) })
   */
  waitForResult(taskId: string, options?: { readonly signal?: AbortSignal }): Promise<TaskResult>

  /**
   * The log of a task. With `follow` it ends when the task has ended; a late joiner gets everything first, and a broken
   * connection is resumed without loss or repetition.
   *
   * @throws (from the iteration) UnknownTaskError, or the signal's reason when it is aborted
   *
   * @example
   * for await (const { stream, text } of producer.logs('t-42', { follow: true })) process[stream].write(text)
   */
  logs(taskId: string, options?: FollowOptions): AsyncIterableIterator<LogEntry>

  /**
   * What happened to a task, from its enqueueing to `task.finished`; otherwise like `logs`.
   *
   * @example
   * for await (const event of producer.events('t-42', { follow: true })) console.log(event.type, event.phase)
   */
  events(taskId: string, options?: FollowOptions): AsyncIterableIterator<TaskEvent>

  /**
   * The exact bytes of a task's patch, for `git apply --index --binary`; none when nothing was changed.
   *
   * @throws (from the iteration) UnknownTaskError, or PatchUnavailableError when the task has not finished, or when the
   *   patch was not captured, can't be reached from here or is not what was captured
   *
   * @example await pipeline(producer.patch('t-42'), createWriteStream('t-42.patch'))
   */
  patch(taskId: string): AsyncIterable<Buffer>

  /**
   * The exact bytes of something that a task left, as it was captured.
   *
   * @param path as in the result's `artifacts`; also `changes.patch`, `changes.bundle` and `log`
   * @throws (from the iteration) UnknownTaskError, or ArtifactUnavailableError when the task has not finished, left no such
   *   thing, or it can't be reached from here or is not what was captured
   *
   * @example await pipeline(producer.artifact('t-42', 'output/report.xml'), createWriteStream('report.xml'))
   */
  artifact(taskId: string, path: string): AsyncIterable<Buffer>

  /**
   * The workers that are alive on the queue, as they last said of themselves.
   *
   * @example if ((await producer.workers()).length === 0) console.warn('nobody would run the task')
   */
  workers(): Promise<WorkerRecord[]>

  /**
   * The containers of all workers as they are now: those of tasks, those that wait for tasks, helpers and kept ones, with what
   * they use. The first state comes within about a second, another one each time that something has changed, at most each
   * 500 ms; figures change about once a second. Workers tell of their containers only while somebody watches.
   *
   * @throws (from the iteration) the signal's reason when it is aborted; RedisUnavailableError also when a Redis that goes
   *   away meanwhile stays away for a minute
   *
   * @example
   * for await (const containers of producer.watchContainers())
   *   for (const { name, cpu } of containers) console.log(name, `${cpu.used} of ${cpu.limit ?? 'all'} cores`)
   */
  watchContainers(options?: WatchOptions): AsyncIterableIterator<LiveContainer[]>

  /**
   * What the queue's workers brought to an end in each of the last minutes, the oldest first and the current one last. A minute
   * in which nothing ended is there too.
   *
   * @param minutes from 1 to 120: more is not kept
   * @throws RangeError
   *
   * @example
   * const ended = (await producer.activity(60)).map(({ at, statuses }) => [at, statuses.succeeded ?? 0])
   */
  activity(minutes: number): Promise<ActivityMinute[]>

  /**
   * The last tasks that ended, the latest first.
   *
   * @param limit how many at most, up to 500, which is what is kept
   * @throws RangeError
   *
   * @example const failed = (await producer.recent(50)).filter(({ code }) => code !== null)
   */
  recent(limit?: number): Promise<EndedTask[]>

  /** Closes every connection; iterations and waiters end with ProducerClosedError. Can be repeated. */
  close(): Promise<void>
}

/**
 * Connects a platform to the runtime's queue. It returns at once; the first call waits for the connection.
 *
 * @throws RangeError for a queue name that BullMQ refuses, or `keyPrefix` in the Redis options
 * @throws StorageConfigError for a storage that can't be
 *
 * @example
 * const producer = createProducer({ redis: 'redis://127.0.0.1:6379' })
 * await producer.enqueue({ taskId: 't-42', run: { script: 'echo hello' } })
 * const result = await producer.waitForResult('t-42')
 * await producer.close()
 */
export function createProducer({ redis, queue = DEFAULT_QUEUE, storage }: ProducerOptions): Producer {
  if (queue === '' || queue.includes(':')) {
    throw new RangeError(
      `the queue name ${JSON.stringify(queue)} can't be used; it is empty or holds ":"; choose another`,
    )
  }
  if (typeof redis !== 'string' && redis.keyPrefix) {
    throw new RangeError(
      "redis.keyPrefix can't be used; the runtime's keys are fixed; use a database number instead",
    )
  }
  const bucket = storage ? storageSettings(storage) : null
  return new RedisProducer(new Connection(redis), queue, bucket && new ObjectStore(bucket))
}

class RedisProducer implements Producer {
  readonly #connection: Connection
  readonly #queue: string
  readonly #names: RedisNames
  readonly #enqueuer: Enqueuer
  readonly #watcher: ResultWatcher
  readonly #store: ObjectStore | null

  constructor(connection: Connection, queue: string, store: ObjectStore | null) {
    this.#store = store
    this.#connection = connection
    this.#queue = queue
    this.#names = redisNames(queue)
    this.#enqueuer = new Enqueuer(connection, this.#names, queue)
    this.#watcher = new ResultWatcher(connection, this.#names.doneChannel, taskId => this.result(taskId))
  }

  async enqueue(task: SendableTask): Promise<Enqueued> {
    const [enqueued] = await this.#enqueuer.send([prepareTask(task)])
    return enqueued as Enqueued
  }

  async enqueueMany(tasks: readonly SendableTask[]): Promise<Enqueued[]> {
    return this.#enqueuer.send(prepareTasks(tasks))
  }

  async cancel(
    taskId: string,
    reason = 'canceled by the platform',
  ): Promise<'requested' | 'already' | 'finished'> {
    const verdict = await this.#connection.use(async redis => {
      const { record, result, cancel, events, cancelChannel } = this.#names
      const [attempt, state] = await redis.hmget(record(taskId), 'attempt', 'state')
      const event = JSON.stringify(cancelEvent(taskId, Number(attempt ?? 0), state === 'running', reason))
      const keys = [record(taskId), result(taskId), cancel(taskId), events(taskId)]
      return redis.agirunnerCancel(...keys, reason, cancelChannel, taskId, event)
    })
    if (verdict === 'unknown') throw new UnknownTaskError(taskId, this.#queue)
    if (verdict !== 'finished') await this.#enqueuer.promote(taskId)
    return verdict as 'requested' | 'already' | 'finished'
  }

  async keep(taskId: string, request: KeepRequest | null): Promise<'requested' | 'finished'> {
    return this.#connection.use(async redis => {
      const { record, result, keep } = this.#names
      const pipeline = redis.pipeline().exists(record(taskId)).exists(result(taskId))
      if (request === null) pipeline.del(keep(taskId))
      else pipeline.set(keep(taskId), JSON.stringify(request), 'EX', RETENTION_SECONDS)
      const [known, finished] = await replies<number>(pipeline)
      if (known === 0) throw new UnknownTaskError(taskId, this.#queue)
      return finished === 1 ? 'finished' : 'requested'
    })
  }

  async result(taskId: string): Promise<TaskResult | null> {
    return this.#connection.use(async redis => {
      const { record, result } = this.#names
      const pipeline = redis.pipeline().get(result(taskId)).exists(record(taskId))
      const [json, known] = await replies<string | number | null>(pipeline)
      if (typeof json === 'string') return JSON.parse(json) as TaskResult
      if (known === 0) throw new UnknownTaskError(taskId, this.#queue)
      return null
    })
  }

  async waitForResult(taskId: string, { signal }: { signal?: AbortSignal } = {}): Promise<TaskResult> {
    return this.#watcher.wait(taskId, signal)
  }

  logs(taskId: string, options?: FollowOptions): AsyncIterableIterator<LogEntry> {
    return this.#follow(taskId, this.#names.log(taskId), decodeLog, options)
  }

  events(taskId: string, options?: FollowOptions): AsyncIterableIterator<TaskEvent> {
    return this.#follow(taskId, this.#names.events(taskId), decodeEvent, options)
  }

  async *patch(taskId: string): AsyncGenerator<Buffer> {
    yield* readPatch(taskId, await this.result(taskId), this.#store)
  }

  async *artifact(taskId: string, path: string): AsyncGenerator<Buffer> {
    yield* readArtifact(taskId, path, await this.result(taskId), this.#store)
  }

  async workers(): Promise<WorkerRecord[]> {
    return this.#connection.use(async redis => {
      const ids = await redis.smembers(this.#names.workers)
      if (ids.length === 0) return []
      const records = await redis.mget(ids.map(id => this.#names.worker(id)))
      return records.flatMap(json => (json === null ? [] : [JSON.parse(json) as WorkerRecord]))
    })
  }

  watchContainers(options?: WatchOptions): AsyncIterableIterator<LiveContainer[]> {
    return watchContainers(this.#connection, this.#names, options)
  }

  async activity(minutes: number): Promise<ActivityMinute[]> {
    requireCount('minutes', minutes, ACTIVITY_SECONDS / 60)
    const last = minuteOf(Date.now())
    const wanted = Array.from({ length: minutes }, (_, at) => last - minutes + 1 + at)
    return this.#connection.use(async redis => {
      const pipeline = redis.pipeline()
      for (const minute of wanted) pipeline.hgetall(this.#names.activity(minute))
      const hashes = await replies<Record<string, string>>(pipeline)
      return wanted.map((minute, at) => activityOf(hashes[at] ?? {}, minute))
    })
  }

  async recent(limit = RECENT_TASKS): Promise<EndedTask[]> {
    requireCount('limit', limit, RECENT_TASKS)
    return this.#connection.use(async redis => {
      const ended = await redis.lrange(this.#names.recent, 0, limit - 1)
      return ended.map(json => JSON.parse(json) as EndedTask)
    })
  }

  async close(): Promise<void> {
    this.#watcher.close()
    await this.#enqueuer.close()
    await this.#store?.close()
    this.#connection.close()
  }

  #follow<T>(
    taskId: string,
    stream: string,
    decode: (seq: number, fields: ReadonlyMap<string, string>) => Decoded<T>,
    options?: FollowOptions,
  ): AsyncIterableIterator<T> {
    const keys = { stream, record: this.#names.record(taskId), result: this.#names.result(taskId) }
    const source = { connection: this.#connection, taskId, queue: this.#queue, keys, decode }
    return followStream(source, options)
  }
}

function requireCount(name: string, count: number, most: number): void {
  if (Number.isSafeInteger(count) && count >= 1 && count <= most) return
  throw new RangeError(`${name} is ${count}; it can't be used; give a whole number from 1 to ${most}`)
}

function decodeLog(seq: number, fields: ReadonlyMap<string, string>): Decoded<LogEntry> {
  return { entry: logEntryOf(seq, fields), end: fields.has('end') }
}

function decodeEvent(seq: number, fields: ReadonlyMap<string, string>): Decoded<TaskEvent> {
  const json = fields.get('e')
  if (json === undefined) return { entry: null, end: false }
  const entry: TaskEvent = { ...(JSON.parse(json) as NewEvent), seq }
  return { entry, end: entry.type === 'task.finished' }
}

function cancelEvent(taskId: string, attempt: number, running: boolean, reason: string): NewEvent {
  const at = new Date().toISOString()
  const phase = running ? 'run' : 'queued'
  return { version: 1, taskId, attempt, at, type: 'cancel.requested', phase, data: { reason } }
}
