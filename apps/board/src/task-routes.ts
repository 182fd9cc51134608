import { UnknownTaskError } from '@agirunner/producer'
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import { fromRedis, Refusal, soon } from './errors.js'
import type { EventStreams } from './event-stream.js'
import { artifactBytes, attachment, patchText } from './files.js'
import { FOREIGN_POLICY } from './headers.js'
import { visitorOf } from './session-routes.js'
import { positionOf, streamTask } from './task-stream.js'
import { enqueueAgain, listTasks, readTask, type TaskSources, taskIdFrom } from './tasks.js'

const Wanted = z.object({
  q: z.string().max(200).optional(),
  state: z.enum(['queued', 'running', 'finished']).optional(),
})
const seq = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0)
const Start = z.object({ log: seq, events: seq })
const Cancel = z.strictObject({ reason: z.string().trim().max(500).optional() })

interface OfTask {
  Params: { id: string }
}

/** Everything below `/api/tasks`. */
export function addTaskRoutes(app: FastifyInstance, sources: TaskSources, streams: EventStreams): void {
  app.get('/api/tasks', async request => await soon(listTasks(sources, asked(Wanted, request.query))))
  app.get<OfTask>('/api/tasks/:id', async ({ params }) => await readTask(sources, taskIdFrom(params.id)))
  addTaskStream(app, sources, streams)
  addFiles(app, sources)
  addChanges(app, sources)
}

function addTaskStream(app: FastifyInstance, sources: TaskSources, streams: EventStreams): void {
  const { redis, names, queue, producer } = sources
  app.get<OfTask>('/api/tasks/:id/stream', { exposeHeadRoute: false }, async (request, reply) => {
    const taskId = taskIdFrom(request.params.id)
    const start = positionOf(request.headers['last-event-id']?.toString()) ?? asked(Start, request.query)
    if ((await fromRedis(redis.exists(names.record(taskId)))) === 0) throw new UnknownTaskError(taskId, queue)
    const stream = streams.open(request, reply)
    await streamTask(producer, taskId, stream, start).catch((error: unknown) => {
      if (!stream.signal.aborted) request.log.warn({ reason: String(error) }, 'a stream of a task broke off')
    })
  })
}

function addFiles(app: FastifyInstance, { producer }: TaskSources): void {
  app.get<OfTask>('/api/tasks/:id/patch', { exposeHeadRoute: false }, async (request, reply) => {
    const patch = await patchText(producer, taskIdFrom(request.params.id))
    reply.header('content-security-policy', FOREIGN_POLICY)
    return await reply.type('text/plain; charset=utf-8').send(patch)
  })
  app.get<{ Params: { id: string; '*': string } }>(
    '/api/tasks/:id/artifacts/*',
    { exposeHeadRoute: false },
    async (request, reply) => {
      const { id, '*': path } = request.params
      // The producer's other names stand for what is shown elsewhere, redacted.
      if (path === 'log' || path === 'changes.patch') throw new Refusal(404, `${path} is no artifact`)
      const bytes = await artifactBytes(producer, taskIdFrom(id), path)
      reply.header('content-security-policy', FOREIGN_POLICY).header('content-disposition', attachment(path))
      return await reply.type('application/octet-stream').send(bytes)
    },
  )
}

function addChanges(app: FastifyInstance, sources: TaskSources): void {
  const byOperators = { config: { changes: 'by operators' } } as const
  app.post<OfTask>('/api/tasks/:id/cancel', byOperators, async request => {
    const { reason } = asked(Cancel, request.body ?? {})
    const { role } = visitorOf(request)
    const taskId = taskIdFrom(request.params.id)
    const verdict = await sources.producer.cancel(
      taskId,
      `${reason || 'no reason given'} (${role}, on the board)`,
    )
    if (verdict === 'finished') throw new Refusal(409, `task ${taskId} has ended; there is nothing to cancel`)
    return { verdict }
  })
  app.post<OfTask>('/api/tasks/:id/again', byOperators, async request => ({
    taskId: await enqueueAgain(sources, taskIdFrom(request.params.id)),
  }))
}

/** @throws Refusal 400 */
function asked<T>(shape: z.ZodType<T>, value: unknown): T {
  const parsed = shape.safeParse(value)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
  throw new Refusal(400, `the request can't be understood; ${problems.join('; ')}`)
}
