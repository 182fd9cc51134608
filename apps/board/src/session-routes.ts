import type { FastifyInstance, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { Role, Session } from './api.js'
import { type Passwords, roleOf } from './auth.js'
import { Refusal } from './errors.js'
import type { EventStreams } from './event-stream.js'
import type { Login, Sessions } from './sessions.js'

export interface SessionOptions {
  readonly passwords: Passwords
  readonly sessions: Sessions
  readonly streams: EventStreams
  readonly cookie: string
  /** The path that the board lives under, or nothing. */
  readonly base: string
  readonly queue: string
}

const Credentials = z.strictObject({ password: z.string().max(1024) })

/** Logging in and out. None of these answers is redacted: they hold nothing of a task, and the token is meant for the page. */
export function addSessionRoutes(app: FastifyInstance, options: SessionOptions): void {
  const { passwords, sessions, streams, cookie, base, queue } = options
  const place = { path: base || '/', httpOnly: true, sameSite: 'strict' } as const
  const sessionOf = (role: Role, login: Login | null): Session => ({
    user: role,
    role,
    csrf: login?.csrf ?? '',
    queue,
  })

  app.get('/api/session', async request => {
    const { role, session } = visitorOf(request)
    return sessionOf(role, session)
  })

  app.post('/api/login', { config: { changes: 'by anybody' } }, async (request, reply) => {
    const credentials = Credentials.safeParse(request.body)
    if (!credentials.success) throw new Refusal(400, 'send { "password": … } as JSON')
    const role = roleOf(credentials.data.password, passwords)
    if (role === null) throw new Refusal(401, 'this is not the password')
    const login = await sessions.begin(role)
    reply.setCookie(cookie, login.id, { ...place, secure: request.protocol === 'https' })
    return sessionOf(role, login)
  })

  app.post('/api/logout', { config: { changes: 'by viewers' } }, async (request, reply) => {
    const { session } = visitorOf(request)
    if (session) {
      await sessions.end(session.id)
      streams.closeOf(session.id)
    }
    return await reply.clearCookie(cookie, place).code(204).send()
  })
}

/** The guard lets nobody through to here but visitors. */
export function visitorOf({ visitor }: FastifyRequest): NonNullable<FastifyRequest['visitor']> {
  if (!visitor) throw new Refusal(401, 'log in as an operator')
  return visitor
}
