import fastifyCookie from '@fastify/cookie'
import fastifyRateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Role } from './api.js'
import { basicRole, isEqual, type Passwords } from './auth.js'
import { Refusal } from './errors.js'
import { HEADERS } from './headers.js'
import type { Pages } from './pages.js'
import type { Login, Sessions } from './sessions.js'

/** Who asks: somebody with a session, or a program with a password. */
export interface Visitor {
  readonly role: Role
  readonly session: Login | null
}

declare module 'fastify' {
  interface FastifyRequest {
    visitor: Visitor | null
  }
  interface FastifyContextConfig {
    /** Anybody may ask for it. */
    open?: boolean
    /** It changes something, and is one of the few that may. */
    changes?: 'by anybody' | 'by viewers' | 'by operators'
  }
}

export interface GuardOptions {
  readonly passwords: Passwords
  readonly sessions: Sessions
  /** The name of the session's cookie. */
  readonly cookie: string
  readonly pages: Pages
}

const MINUTE_MS = 60_000
/** From one address within a minute. Every page is some questions and a stream; the queues' pages ask again each few seconds. */
const REQUESTS = 1200
const LOGINS = 10

/**
 * Stands in front of every route, of Bull Board's interface for programs and of what is not found too: limits, headers,
 * who may come in, and what they may change.
 */
export async function guard(app: FastifyInstance, options: GuardOptions): Promise<void> {
  await app.register(fastifyCookie)
  await app.register(fastifyRateLimit, { global: false })
  app.decorateRequest('visitor', null)
  const limit = app.createRateLimit({ max: REQUESTS, timeWindow: MINUTE_MS })
  const loginLimit = app.createRateLimit({ max: LOGINS, timeWindow: MINUTE_MS })
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS).header('content-security-policy', options.pages.policy)
    const { open, changes } = request.routeOptions.config
    // The files of the pages lie in memory, and one page asks for all of them.
    if (open) return
    checkLimit(await limit(request), reply)
    if (changes === 'by anybody') checkLimit(await loginLimit(request), reply)
    if (changes === 'by anybody') return refuseOtherSites(request)
    request.visitor = await visitorOf(request, options)
    if (!request.visitor) return await challenge(request, reply, options.pages)
    if (!isSafe(request)) checkChange(request, reply, request.visitor)
  })
  app.addHook('onSend', async (_request, reply) => {
    // Pages and answers show tasks; only the files of the interface are the same for everybody.
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store')
  })
}

interface Limited {
  readonly isAllowed: boolean
  readonly isExceeded?: boolean
  readonly ttlInSeconds?: number
}

function checkLimit(
  { isAllowed, isExceeded = false, ttlInSeconds = 60 }: Limited,
  reply: FastifyReply,
): void {
  if (isAllowed || !isExceeded) return
  reply.header('retry-after', String(ttlInSeconds))
  throw new Refusal(429, `too many requests from your address; try again in ${ttlInSeconds} s`)
}

async function visitorOf(
  request: FastifyRequest,
  { sessions, cookie, passwords }: GuardOptions,
): Promise<Visitor | null> {
  const id = request.cookies[cookie]
  const session = id === undefined ? null : await sessions.find(id)
  if (session) return { role: session.role, session }
  const role = basicRole(request.headers.authorization, passwords)
  return role && { role, session: null }
}

/** A person gets the login at the address that was asked for; a program is told how to log in. */
async function challenge(request: FastifyRequest, reply: FastifyReply, pages: Pages): Promise<void> {
  reply.code(401)
  if (isSafe(request) && request.headers.accept?.includes('text/html')) return await pages.send(reply)
  // To a script of a page too a browser would answer this header with a dialog of its own.
  if (!isBrowser(request)) reply.header('www-authenticate', 'Basic realm="Agirunner", charset="UTF-8"')
  await reply.send({ error: 'log in as an operator' })
}

function isBrowser({ headers }: FastifyRequest): boolean {
  return headers['sec-fetch-site'] !== undefined || (headers['user-agent'] ?? '').startsWith('Mozilla/')
}

/**
 * The record of a task is the runtime's and not BullMQ's: a job that is retried, edited or removed behind its back
 * would no longer say what became of the task. So only what is marked may change anything.
 */
function checkChange(request: FastifyRequest, reply: FastifyReply, { role, session }: Visitor): void {
  const { changes } = request.routeOptions.config
  if (changes === undefined) {
    reply.header('allow', 'GET, HEAD')
    throw new Refusal(405, 'this only shows; cancel or enqueue a task on its page, or by `agirunner`')
  }
  refuseOtherSites(request)
  const token = request.headers['x-csrf-token']
  if (session && !isEqual(typeof token === 'string' ? token : '', session.csrf)) {
    throw new Refusal(403, 'the request does not come from a page of the board; reload the page')
  }
  if (changes === 'by operators' && role !== 'operator') {
    throw new Refusal(403, 'a viewer can change nothing; log in as operator')
  }
}

/** A page of another site can make a browser send requests, but not lie about where they come from. */
function refuseOtherSites(request: FastifyRequest): void {
  const { origin, 'sec-fetch-site': site } = request.headers
  const isOwn =
    typeof site === 'string' ? site === 'same-origin' || site === 'none' : isOwnOrigin(origin, request)
  if (!isOwn) throw new Refusal(403, 'the request comes from another site; use the pages of the board itself')
}

/** A proxy may speak plain HTTP to the board, and so the scheme says nothing unless it is the weaker one. */
function isOwnOrigin(origin: string | undefined, { host, protocol }: FastifyRequest): boolean {
  if (origin === undefined) return true
  if (!URL.canParse(origin)) return false
  const url = new URL(origin)
  return url.host === host && (url.protocol === 'https:' || protocol === 'http')
}

function isSafe({ method }: FastifyRequest): boolean {
  return method === 'GET' || method === 'HEAD'
}
