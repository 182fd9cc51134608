import type { AddressInfo } from 'node:net'
import { REDIS_PREFIX } from '@agirunner/contracts'
import { createBullBoard } from '@bull-board/api'
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter'
import { FastifyAdapter } from '@bull-board/fastify'
import { Queue } from 'bullmq'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { Redis } from 'ioredis'
import { basicAuth, USER } from './auth.js'
import { redact } from './redact.js'

export interface BoardOptions {
  readonly redisUrl: string
  readonly queue: string
  readonly host: string
  /** 0 is any free port. */
  readonly port: number
  readonly password: string
}

export interface Board {
  /** Where it answers, such as `http://127.0.0.1:3700`. */
  readonly url: string
  /** Who may log in, with the password of the options. */
  readonly user: string
  close(): Promise<void>
}

const QUEUES = '/queues'
const HEALTH = '/healthz'
/** A question to Redis is given up after this long, in milliseconds: the page then says so instead of waiting. */
const REDIS_MS = 5000

const HEADERS = {
  // Bull Board brings its own scripts, sets styles in attributes, and asks for fonts elsewhere, which it can do without.
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
} as const

/**
 * Starts the operators' web app. Everything but `/healthz` asks for the password, and nothing that looks like a
 * secret leaves it.
 *
 * @throws Error when Redis does not answer, or the port is taken
 */
export async function createBoard({
  redisUrl,
  queue: name,
  host,
  port,
  password,
}: BoardOptions): Promise<Board> {
  const redis = new Redis(redisUrl, {
    connectTimeout: REDIS_MS,
    commandTimeout: REDIS_MS,
    maxRetriesPerRequest: 1,
    // ioredis waits this long for a connection to close, and for one that is closed already too.
    disconnectTimeout: 250,
  })
  const app = fastify({ logger: { level: 'warn', stream: process.stderr }, forceCloseConnections: true })
  app.addHook('onClose', () => redis.disconnect())
  try {
    await checkRedis(redis)
    guard(app, password)
    await addQueues(app, redis, name)
    app.get(HEALTH, () => ({ status: 'ok' }))
    app.get('/', landing)
    await app.listen({ host, port })
  } catch (error) {
    await app.close()
    throw error
  }
  return { url: addressOf(app, host), user: USER, close: () => app.close() }
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

/** In front of every route, of Bull Board's interface for programs and of what is not found too. */
function guard(app: FastifyInstance, password: string): void {
  const isOperator = basicAuth(password)
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS)
    if (request.routeOptions.url === HEALTH) return
    if (!isOperator(request.headers.authorization)) return await challenge(reply)
    if (request.method !== 'GET' && request.method !== 'HEAD') return await refuseToWrite(reply)
  })
  app.addHook('onSend', async (_request, reply) => {
    // Pages and answers show tasks; only the files of the interface are the same for everybody.
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
  })
}

async function challenge(reply: FastifyReply): Promise<void> {
  reply.code(401).header('www-authenticate', 'Basic realm="Agirunner", charset="UTF-8"')
  await reply.send({ error: 'log in as an operator' })
}

/**
 * The record of a task is the runtime's and not BullMQ's: a job that is retried, edited or removed behind its back
 * would no longer say what became of the task. A page of another site can't make the browser change anything either.
 */
async function refuseToWrite(reply: FastifyReply): Promise<void> {
  await reply
    .code(405)
    .header('allow', 'GET, HEAD')
    .send({ error: 'the board only shows; use `agirunner cancel` and `enqueue`' })
}

async function addQueues(app: FastifyInstance, redis: Redis, name: string): Promise<void> {
  const queue = new Queue(name, { connection: redis, prefix: REDIS_PREFIX })
  queue.on('error', () => undefined)
  app.addHook('onClose', () => queue.close())
  const serverAdapter = new FastifyAdapter().setBasePath(QUEUES)
  createBullBoard({
    queues: [new BullMQAdapter(queue, { readOnlyMode: true })],
    serverAdapter,
    options: { uiConfig: { boardTitle: 'Agirunner' } },
  })
  await app.register(
    async scope => {
      // Bull Board's own formatters reach data, return value and name only; an answer is redacted as a whole instead:
      // failed reasons, stack traces, options, logs and messages of errors too.
      scope.addHook('preSerialization', async (_request, _reply, payload) => redact(payload))
      await scope.register(serverAdapter.registerPlugin())
    },
    { prefix: QUEUES },
  )
}

async function landing(_request: FastifyRequest, reply: FastifyReply): Promise<void> {
  await reply.redirect(QUEUES)
}

function addressOf(app: FastifyInstance, host: string): string {
  const { port } = app.server.address() as AddressInfo
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
