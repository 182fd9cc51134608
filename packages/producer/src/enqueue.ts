import {
  type NewEvent,
  PRIORITIES,
  REDIS_PREFIX,
  RETENTION_SECONDS,
  type RedisNames,
  type TaskJobData,
} from '@agirunner/contracts'
import { type BulkJobOptions, Queue } from 'bullmq'
import type { Connection, RuntimeRedis } from './connection.js'
import { TaskConflictError } from './errors.js'
import type { PreparedTask } from './prepare.js'
import { type EnqueueSpan, enqueueSpan } from './trace.js'

/** What became of a task that was enqueued: it is new, or the same task is known already and nothing was done. */
export interface Enqueued {
  readonly taskId: string
  readonly status: 'created' | 'same'
}

/** One call holds at most this many tasks and bytes, so that neither side buffers a flood. */
const CHUNK_TASKS = 250
const CHUNK_BYTES = 4 * 1024 * 1024

type TaskQueue = Queue<TaskJobData>
type Verdict = 'created' | 'same' | 'conflict'

/** Tasks whose records are there, and what became of each. */
interface Registered {
  readonly chunk: readonly PreparedTask[]
  readonly verdicts: readonly Verdict[]
  readonly now: Date
}

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
      return await this.#sendInTurn(redis, [...chunksOf(tasks)])
    })
  }

  /**
   * The records of the next chunk go ahead of the jobs of this one, so that the next jobs are made while Redis adds
   * these. No more than two chunks are on their way.
   */
  async #sendInTurn(redis: RuntimeRedis, chunks: readonly (readonly PreparedTask[])[]): Promise<Enqueued[]> {
    const sent: Enqueued[] = []
    let registered = await this.#register(redis, chunks[0] ?? [])
    let before = Promise.resolve()
    for (let next = 1; next <= chunks.length; next += 1) {
      const registering = this.#register(redis, chunks[next] ?? [])
      const adding = this.#addJobs(redis, registered)
      // When another part fails first, nobody waits for this one any more.
      adding.catch(() => undefined)
      const { chunk, verdicts } = registered
      ;[registered] = await Promise.all([registering, before])
      before = adding
      sent.push(...chunk.map(({ task }, i) => ({ taskId: task.taskId, status: statusOf(verdicts[i]) })))
    }
    await before
    return sent
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
      const records = chunk.map(({ task }) => this.#names.record(task.taskId))
      const known = await redis.agirunnerFindHashes(records.length, ...records)
      taken.push(...chunk.flatMap((one, at) => (known[at] && known[at] !== one.hash ? one.task.taskId : [])))
    }
    if (taken.length > 0) throw new TaskConflictError(taken)
  }

  async #register(redis: RuntimeRedis, chunk: readonly PreparedTask[]): Promise<Registered> {
    const now = new Date()
    if (chunk.length === 0) return { chunk, verdicts: [], now }
    const { record, events, expiring } = this.#names
    const at = now.toISOString()
    const keys = [expiring, ...chunk.flatMap(({ task: { taskId } }) => [record(taskId), events(taskId)])]
    const args = chunk.flatMap(({ task, hash, json }) => {
      const event = JSON.stringify(queuedEvent(task.taskId, at))
      return [hash, json, event, task.taskId, endOfWaiting(task, now)]
    })
    return { chunk, verdicts: await redis.agirunnerEnqueue(keys.length, ...keys, at, ...args), now }
  }

  /**
   * Adds the jobs of new tasks, and of those whose earlier producer died between the record and the job.
   *
   * @throws TaskConflictError once the others are added
   */
  async #addJobs(redis: RuntimeRedis, { chunk, verdicts, now }: Registered): Promise<void> {
    const of = (verdict: Verdict) => chunk.filter((_, i) => verdicts[i] === verdict)
    const spans: EnqueueSpan[] = []
    const traced = (task: PreparedTask, createdAt: string) => {
      const span = enqueueSpan(task.task, this.#queueName, now)
      spans.push(span)
      return jobOf(task, createdAt, now, span.traceparent)
    }
    const jobs = of('created').map(task => traced(task, now.toISOString()))
    for (const { task, createdAt } of await this.#withoutJob(redis, of('same')))
      jobs.push(traced(task, createdAt))
    try {
      if (jobs.length > 0) await (await this.#open()).addBulk(jobs)
    } finally {
      for (const span of spans) span.end()
    }
    const conflicts = of('conflict').map(({ task }) => task.taskId)
    if (conflicts.length > 0) throw new TaskConflictError(conflicts)
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

const statusOf = (verdict: Verdict | undefined): Enqueued['status'] =>
  verdict === 'created' ? 'created' : 'same'

function jobOf(
  { task, sent }: PreparedTask,
  createdAt: string,
  now: Date,
  traceparent: string | null,
): { name: string; data: TaskJobData; opts: BulkJobOptions } {
  const delay = task.notBefore ? Math.max(0, Date.parse(task.notBefore) - now.getTime()) : 0
  return {
    name: 'task',
    data: { task: sent, createdAt, traceparent },
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
