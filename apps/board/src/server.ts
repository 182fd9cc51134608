import type { AddressInfo } from 'node:net'
import { REDIS_PREFIX, redisNames } from '@agirunner/contracts'
import { createProducer, type StorageOptions } from '@agirunner/producer'
import { Queue } from 'bullmq'
import fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { type Passwords, USER } from './auth.js'
import { ContainerWatch } from './containers.js'
import { fromRedis, refuseInJson, soon } from './errors.js'
import { EventStreams, type StreamLimits } from './event-stream.js'
import { guard } from './guard.js'
import { streamLive } from './live-stream.js'
import { readOverview } from './overview.js'
import { addPages } from './pages.js'
import { addQueues } from './queues.js'
import { redact } from './redact.js'
import { addSessionRoutes } from './session-routes.js'
import { Sessions } from './sessions.js'
import { shared } from './shared.js'
import { addTaskRoutes } from './task-routes.js'
import { Waiting } from './waiting.js'
import { WorkerWatch } from './workers.js'

export interface BoardOptions {
  readonly redisUrl: string
  readonly queue: string
  readonly host: string
  /** 0 is any free port. */
  readonly port: number
  readonly password: string
  /** Of the user `viewer`; none by default. */
  readonly viewerPassword?: string | null
  /** The path that a proxy shows the board under, such as `/agirunner`; none by default. */
  readonly base?: string
  /** Where the workers store what tasks leave; on this machine's disk by default. */
  readonly storage?: StorageOptions
  readonly streams?: Partial<StreamLimits>
}

export interface Board {
  /** Where it answers, such as `http://127.0.0.1:3700`. */
  readonly url: string
  /** Who may log in, with the password of the options. */
  readonly user: string
  close(): Promise<void>
}

const HEALTH = '/healthz'
/** A question to Redis is given up after this long, in milliseconds: the page then says so instead of waiting. */
const REDIS_MS = 4000
/** The largest body of a request, in bytes: a password, or a reason. */
const BODY = 16 * 1024
const STREAMS: StreamLimits = { streams: 200, stalledMs: 30_000, sessionMs: 60_000 }
/** How long an overview is good for, in milliseconds: many who watch cost one read. */
const OVERVIEW_MS = 1000

/**
 * Starts the operators' web app. Everything but `/healthz`, the files of the pages and the login asks for a session or the
 * password, and nothing that looks like a secret leaves it, but for the bytes of artifacts.
 *
 * @throws Error when Redis does not answer, or the port is taken
 */
export async function createBoard(options: BoardOptions): Promise<Board> {
  const { redisUrl, host, port, base = '' } = options
  const redis = new Redis(redisUrl, {
    connectTimeout: REDIS_MS,
    commandTimeout: REDIS_MS,
    maxRetriesPerRequest: 1,
    // ioredis waits this long for a connection to close, and for one that is closed already too.
    disconnectTimeout: 250,
  })
  const app = fastify({
    logger: { level: 'warn', stream: process.stderr },
    forceCloseConnections: true,
    bodyLimit: BODY,
    // A proxy on this machine says who asks, and how; nobody else is believed.
    trustProxy: 'loopback',
    rewriteUrl: ({ url = '/' }) => withoutBase(url, base),
  })
  app.addHook('onClose', () => redis.disconnect())
  try {
    await checkRedis(redis)
    await build(app, redis, options)
    await app.listen({ host, port })
  } catch (error) {
    await app.close()
    throw error
  }
  return { url: `${addressOf(app, host)}${base}`, user: USER, close: () => app.close() }
}

/** @throws Error that names what is wrong with the connection, and not only that a question had no answer */
async function checkRedis(redis: Redis): Promise<void> {
  let reason = ''
  // Later on each question says itself that Redis is away; without a listener it would end the process.
  redis.on('error', (error: Error) => (reason = error.message))
  try {
    await redis.ping()
  } catch (error) {
    const { host, port } = redis.options
    throw new Error(`Redis at ${host}:${port} is not usable: ${reason || String(error)}; check REDIS_URL`, {
      cause: error,
    })
  }
}

async function build(app: FastifyInstance, redis: Redis, options: BoardOptions): Promise<void> {
  const { queue, base = '' } = options
  const names = redisNames(queue)
  const passwords: Passwords = { operator: options.password, viewer: options.viewerPassword ?? null }
  const sessions = new Sessions(redis, names, passwords)
  const streams = new EventStreams(sessions, { ...STREAMS, ...options.streams })
  app.addHook('preClose', async () => streams.closeAll())
  const cookie = `agirunner-${queue}`
  refuseInJson(app)
  const pages = addPages(app, base)
  await guard(app, { passwords, sessions, cookie, pages })
  addSessionRoutes(app, { passwords, sessions, streams, cookie, base, queue })
  app.get(HEALTH, { config: { open: true } }, () => ({ status: 'ok' }))
  await addQueues(app, await addData(app, redis, options, streams), base, pages)
}

async function addData(
  app: FastifyInstance,
  redis: Redis,
  { redisUrl, queue: name, storage }: BoardOptions,
  streams: EventStreams,
): Promise<Queue> {
  const names = redisNames(name)
  const queue = new Queue(name, { connection: redis, prefix: REDIS_PREFIX })
  queue.on('error', () => undefined)
  const producer = createProducer({ redis: redisUrl, queue: name, ...(storage && { storage }) })
  const waiting = new Waiting(redis, names, queue)
  const workers = new WorkerWatch(redis, names)
  const containers = new ContainerWatch(producer)
  workers.start()
  app.addHook('onClose', async () => {
    workers.stop()
    containers.stop()
    await Promise.all([queue.close(), producer.close()])
  })
  const overview = shared(
    OVERVIEW_MS,
    async () => await soon(readOverview({ queue, waiting, workers, live: producer })),
  )
  await app.register(async scope => {
    scope.addHook('preSerialization', async (_request, _reply, payload) => redact(payload))
    scope.get('/api/overview', overview)
    scope.get('/api/containers', async () => {
      // What the workers told last is still there when Redis is not.
      await fromRedis(redis.ping())
      return await containers.read()
    })
    scope.get('/api/stream', { exposeHeadRoute: false }, async (request, reply) => {
      await streamLive({ overview, containers }, streams.open(request, reply))
    })
    addTaskRoutes(scope, { redis, names, queue: name, producer, waiting, workers, live: producer }, streams)
  })
  return queue
}

/** A proxy may take the base away or leave it: both lead to the same route. */
function withoutBase(url: string, base: string): string {
  if (base === '' || !url.startsWith(base)) return url
  const rest = url.slice(base.length)
  if (rest === '' || rest.startsWith('?')) return `/${rest}`
  return rest.startsWith('/') ? rest : url
}

function addressOf(app: FastifyInstance, host: string): string {
  const { port } = app.server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
