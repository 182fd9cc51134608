import { DEFAULT_TENANT, type RedisNames, TASK_ID, type TaskResult } from '@agirunner/contracts'
import { type Producer, TaskConflictError, UnknownTaskError } from '@agirunner/producer'
import type { Redis } from 'ioredis'
import type { TaskList, TaskRow, TaskState, TaskView } from './api.js'
import { fromRedis, Refusal } from './errors.js'
import type { Live } from './live.js'
import type { Waiting } from './waiting.js'
import type { WorkerWatch } from './workers.js'

const WAITING = 100
const RECENT = 500
/** How many times a task can be enqueued again. */
const AGAIN = 100
const LONGEST_ID = 64

export interface TaskSources {
  readonly redis: Redis
  readonly names: RedisNames
  readonly queue: string
  readonly producer: Producer
  readonly waiting: Waiting
  readonly workers: WorkerWatch
  readonly live: Live
}

/** @throws Refusal 400 */
export function taskIdFrom(text: string): string {
  if (TASK_ID.test(text)) return text
  throw new Refusal(
    400,
    `${JSON.stringify(text.slice(0, 80))} is no task id; it must match ${TASK_ID.source}`,
  )
}

/**
 * Tasks that run, that wait and that ended last, in this order.
 *
 * @param q a part of the id or of the tenant
 * @throws Refusal 503
 */
export async function listTasks(
  sources: TaskSources,
  { q = '', state }: { q?: string | undefined; state?: TaskState | undefined },
): Promise<TaskList> {
  const [waiting, running, ended] = await Promise.all([
    sources.waiting.all(WAITING + 1),
    readRunning(sources),
    fromRedis(sources.live.recent(RECENT)),
  ])
  const queued = waiting.slice(0, WAITING).map(
    ({ taskId, tenantId, createdAt }): TaskRow => ({
      ...NOTHING,
      taskId,
      tenantId,
      state: 'queued',
      at: createdAt,
    }),
  )
  const finished = ended.map(
    ({ finishedAt, ...task }): TaskRow => ({ ...task, state: 'finished', at: finishedAt }),
  )
  const rows = new Map<string, TaskRow>()
  // A task that moved on while it was read is shown where it went.
  for (const row of [...finished, ...running, ...queued]) if (!rows.has(row.taskId)) rows.set(row.taskId, row)
  const text = q.toLowerCase()
  const tasks = [...running, ...queued, ...finished].filter(
    row =>
      rows.get(row.taskId) === row &&
      (state === undefined || row.state === state) &&
      `${row.taskId}\n${row.tenantId}`.toLowerCase().includes(text),
  )
  return { tasks, more: waiting.length > WAITING }
}

const NOTHING = { status: null, code: null, wallMs: null }

async function readRunning({ redis, names, workers }: TaskSources): Promise<TaskRow[]> {
  const ids = (await workers.look()).flatMap(({ running }) => running)
  return await fromRedis(
    Promise.all(
      ids.map(async taskId => {
        const record = await redis.hgetall(names.record(taskId))
        const { tenantId = DEFAULT_TENANT } = specOf(record)
        const at = attemptsOf(record).at(-1)?.startedAt ?? null
        return { ...NOTHING, taskId, tenantId, state: 'running' as const, at }
      }),
    ),
  )
}

/** @throws UnknownTaskError, Refusal 503 */
export async function readTask({ redis, names, queue }: TaskSources, taskId: string): Promise<TaskView> {
  const [record, json, cancel] = await fromRedis(
    Promise.all([
      redis.hgetall(names.record(taskId)),
      redis.get(names.result(taskId)),
      redis.get(names.cancel(taskId)),
    ]),
  )
  if (record.task === undefined) throw new UnknownTaskError(taskId, queue)
  const spec = specOf(record)
  const result = json === null ? null : (JSON.parse(json) as TaskResult)
  return {
    taskId,
    tenantId: spec.tenantId ?? DEFAULT_TENANT,
    state: result ? 'finished' : record.state === 'running' ? 'running' : 'queued',
    createdAt: record.createdAt ?? '',
    spec,
    priority: spec.priority ?? 'normal',
    cancel,
    attempts: result?.attempts ?? attemptsOf(record),
    result,
    job: `queues/queue/${encodeURIComponent(queue)}/${taskId}`,
  }
}

/** A task as it was sent: what it does not say has the contract's default. */
interface Spec {
  readonly tenantId?: string
  readonly priority?: string
}

type TaskRecord = Readonly<Record<string, string>>

function specOf({ task = '{}' }: TaskRecord): Spec {
  return JSON.parse(task) as Spec
}

function attemptsOf(record: TaskRecord): TaskResult['attempts'] {
  return Object.entries(record)
    .filter(([field]) => /^attempt:\d+$/.test(field))
    .map(([, json]) => JSON.parse(json) as TaskResult['attempts'][number])
    .sort((one, other) => one.attempt - other.attempt)
}

/**
 * Enqueues a task with the same content once more.
 *
 * @returns the id of the new task
 * @throws UnknownTaskError, Refusal 409 or 503
 */
export async function enqueueAgain(
  { redis, names, queue, producer }: TaskSources,
  taskId: string,
): Promise<string> {
  const task = await fromRedis(redis.hget(names.record(taskId), 'task'))
  if (task === null) throw new UnknownTaskError(taskId, queue)
  const spec = JSON.parse(task) as Record<string, unknown>
  for (let count = 1; count <= AGAIN; count += 1) {
    const next = againId(taskId, count)
    if ((await fromRedis(redis.exists(names.record(next)))) === 1) continue
    // Somebody else may take the same id in between.
    const enqueued = await producer.enqueue({ ...spec, taskId: next }).catch((error: unknown) => {
      if (error instanceof TaskConflictError) return null
      throw error
    })
    if (enqueued?.status === 'created') return next
  }
  throw new Refusal(
    409,
    `task ${taskId} was enqueued again ${AGAIN} times already; enqueue it with an id of your own`,
  )
}

function againId(taskId: string, count: number): string {
  const suffix = `-again-${count}`
  return taskId.replace(/-again-\d+$/, '').slice(0, LONGEST_ID - suffix.length) + suffix
}
