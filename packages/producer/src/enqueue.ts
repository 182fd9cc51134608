import {
  type NewEvent,
  PRIORITIES,
  REDIS_PREFIX,
  RETENTION_SECONDS,
  type RedisNames,
  type TaskJobData,
} from '@agirunner/contracts'
import { type BulkJobOptions, Queue } from 'bullmq'
import type { Connection, RuntimePipeline, RuntimeRedis } from './connection.js'
import { TaskConflictError } from './errors.js'
import type { PreparedTask } from './prepare.js'
import { type EnqueueSpan, enqueueSpan } from './trace.js'

/** What became of a task that was enqueued: it is new, or the same task is known already and nothing was done. */
export interface Enqueued {
  readonly taskId: string
  readonly status: 'created' | 'same'
}

/** One pipeline holds at most this many tasks and bytes, so that neither side buffers a flood. */
const CHUNK_TASKS = 250
const CHUNK_BYTES = 4 * 1024 * 1024

type TaskQueue = Queue<TaskJobData>
type Verdict = 'created' | 'same' | 'conflict'

/** Puts tasks into the queue: the record first, then the BullMQ job. */
export class Enqueuer {
  readonly #connection: Connection
  readonly #names: RedisNames
  readonly #queueName: string
  #queue: Promise<TaskQueue> | null = null

  constructor(connection: Connection, names: RedisNames, queueName: string) {
    this.#connection = connection
    this.#names = names
    this.#queueName = queueName
  }

  /**
   * Sends tasks in their order.
   *
   * @throws TaskConflictError when a taskId is taken; none was sent, save for a race with another producer
   */
  async send(tasks: readonly PreparedTask[]): Promise<Enqueued[]> {
    return this.#connection.use(async redis => {
      if (tasks.length > 1) await this.#refuseConflicts(redis, tasks)
      const sent: Enqueued[] = []
      for (const chunk of chunksOf(tasks)) sent.push(...(await this.#sendChunk(redis, chunk)))
      return sent
    })
  }

  /** Makes a job that waits for its time run now, so that a worker can end the canceled task. */
  async promote(taskId: string): Promise<void> {
    await this.#connection.use(async () => {
      const queue = await this.#open()
      const job = await queue.getJob(taskId)
      if (!(await job?.isDelayed())) return
      await job?.promote().catch(async (error: unknown) => {
        // Its time came in between: then there is nothing left to do.
        if (await job.isDelayed()) throw error
      })
    })
  }

  async close(): Promise<void> {
    const queue = await this.#queue?.catch(() => null)
    await queue?.close().catch(() => undefined)
  }

  async #refuseConflicts(redis: RuntimeRedis, tasks: readonly PreparedTask[]): Promise<void> {
    const taken: string[] = []
    for (const chunk of chunksOf(tasks)) {
      const pipeline = redis.pipeline()
      for (const { task } of chunk) pipeline.hget(this.#names.record(task.taskId), 'hash')
      const hashes = await replies<string | null>(pipeline)
      taken.push(
        ...chunk.filter(({ hash }, i) => (hashes[i] ?? hash) !== hash).map(({ task }) => task.taskId),
      )
    }
    if (taken.length > 0) throw new TaskConflictError(taken)
  }

  async #sendChunk(redis: RuntimeRedis, chunk: readonly PreparedTask[]): Promise<Enqueued[]> {
    const spans = new Map<string, EnqueueSpan>()
    for (const { task } of chunk)
      if (!spans.has(task.taskId)) spans.set(task.taskId, enqueueSpan(task, this.#queueName))
    let verdicts: readonly Verdict[] = []
    try {
      const now = new Date()
      verdicts = await this.#register(redis, chunk, now)
      await this.#addJobs(redis, chunk, verdicts, now, spans)
    } finally {
      const ids = chunk.map(({ task }) => task.taskId)
      for (const [taskId, span] of spans) span.end(verdicts[ids.indexOf(taskId)] ?? 'failed')
    }
    const conflicts = chunk.filter((_, i) => verdicts[i] === 'conflict').map(({ task }) => task.taskId)
    if (conflicts.length > 0) throw new TaskConflictError(conflicts)
    return chunk.map(({ task }, i) => ({
      taskId: task.taskId,
      status: verdicts[i] === 'created' ? 'created' : 'same',
    }))
  }

  async #register(redis: RuntimeRedis, chunk: readonly PreparedTask[], now: Date): Promise<Verdict[]> {
    const pipeline = redis.pipeline() as RuntimePipeline
    for (const { task, hash, json } of chunk) {
      const at = now.toISOString()
      const { record, events, expiring } = this.#names
      const event = JSON.stringify(queuedEvent(task.taskId, at))
      const keys = [record(task.taskId), events(task.taskId), expiring]
      pipeline.agirunnerEnqueue(...keys, hash, json, at, event, task.taskId, endOfWaiting(task, now))
    }
    return await replies<Verdict>(pipeline)
  }

  /** Adds the jobs of new tasks, and of those whose earlier producer died between the record and the job. */
  async #addJobs(
    redis: RuntimeRedis,
    chunk: readonly PreparedTask[],
    verdicts: readonly Verdict[],
    now: Date,
    spans: ReadonlyMap<string, EnqueueSpan>,
  ): Promise<void> {
    const created = chunk.filter((_, i) => verdicts[i] === 'created')
    const known = chunk.filter((_, i) => verdicts[i] === 'same')
    const jobs = created.map(task => jobOf(task, now.toISOString(), now, spans))
    for (const { task, createdAt } of await this.#withoutJob(redis, known)) {
      jobs.push(jobOf(task, createdAt, now, spans))
    }
    if (jobs.length === 0) return
    const queue = await this.#open()
    await queue.addBulk(jobs)
  }

  async #withoutJob(
    redis: RuntimeRedis,
    known: readonly PreparedTask[],
  ): Promise<{ task: PreparedTask; createdAt: string }[]> {
    if (known.length === 0) return []
    const pipeline = redis.pipeline()
    for (const { task } of known) {
      pipeline.exists(this.#names.result(task.taskId))
      pipeline.exists(`${REDIS_PREFIX}:${this.#queueName}:${task.taskId}`)
      pipeline.hget(this.#names.record(task.taskId), 'createdAt')
    }
    const answers = await replies<number | string | null>(pipeline)
    return known.flatMap((task, i) => {
      const [finished, queued, createdAt] = answers.slice(3 * i, 3 * i + 3)
      return finished || queued ? [] : [{ task, createdAt: String(createdAt) }]
    })
  }

  /**
   * BullMQ reads Redis' version when a queue is made and stays broken when that fails, so the queue is made when Redis
   * is known to answer, and made anew when it was not ready after all.
   */
  async #open(): Promise<TaskQueue> {
    this.#queue ??= this.#create()
    try {
      return await this.#queue
    } catch (error) {
      this.#queue = null
      throw error
    }
  }

  async #create(): Promise<TaskQueue> {
    const queue: TaskQueue = new Queue(this.#queueName, {
      connection: this.#connection.redis,
      prefix: REDIS_PREFIX,
    })
    queue.on('error', () => undefined)
    try {
      await queue.waitUntilReady()
      return queue
    } catch (error) {
      await queue.close().catch(() => undefined)
      throw error
    }
  }
}

function* chunksOf(tasks: readonly PreparedTask[]): Generator<PreparedTask[]> {
  let chunk: PreparedTask[] = []
  let bytes = 0
  for (const task of tasks) {
    if (chunk.length === CHUNK_TASKS || (chunk.length > 0 && bytes + task.json.length > CHUNK_BYTES)) {
      yield chunk
      chunk = []
      bytes = 0
    }
    chunk.push(task)
    bytes += task.json.length
  }
  if (chunk.length > 0) yield chunk
}

/** All replies of a pipeline; the first error when there is one. */
export async function replies<T>(pipeline: {
  exec(): Promise<[Error | null, unknown][] | null>
}): Promise<T[]> {
  const answers = (await pipeline.exec()) ?? []
  return answers.map(([error, value]) => {
    if (error) throw error
    return value as T
  })
}

function jobOf(
  { task, sent }: PreparedTask,
  createdAt: string,
  now: Date,
  spans: ReadonlyMap<string, EnqueueSpan>,
): { name: string; data: TaskJobData; opts: BulkJobOptions } {
  const delay = task.notBefore ? Math.max(0, Date.parse(task.notBefore) - now.getTime()) : 0
  return {
    name: 'task',
    data: { task: sent, createdAt, traceparent: spans.get(task.taskId)?.traceparent ?? null },
    opts: {
      jobId: task.taskId,
      // Tries again are the runtime's, never BullMQ's.
      attempts: 1,
      priority: PRIORITIES[task.priority],
      removeOnComplete: { age: RETENTION_SECONDS },
      removeOnFail: { age: RETENTION_SECONDS },
      ...(delay > 0 ? { delay } : {}),
    },
  }
}

/** When `limits.queue` is over, in Unix milliseconds; empty when there is no such limit. */
function endOfWaiting({ limits, notBefore }: PreparedTask['task'], now: Date): string {
  if (limits.queue === null) return ''
  const from = Math.max(now.getTime(), notBefore === null ? 0 : Date.parse(notBefore))
  return String(Math.ceil(from + limits.queue * 1000))
}

function queuedEvent(taskId: string, at: string): NewEvent {
  return { version: 1, taskId, attempt: 0, at, type: 'phase.started', phase: 'queued', data: {} }
}
