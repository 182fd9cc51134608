import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Releasable } from '../support/lifecycle.js'
import { type Log, messageOf } from '../support/log.js'

/** Where to listen. */
export interface HttpPlace {
  readonly host: string
  readonly port: number
  /** Whether the operator named it. The default gives way to a free port: several workers may share a machine. */
  readonly named: boolean
}

export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** What answers at a path; it must not be slow, and it may throw. */
export type Routes = Readonly<Record<string, () => Promise<Answer>>>

export interface HttpServer extends Releasable {
  /** Such as `http://127.0.0.1:3701`; null while it could not listen. */
  url(): string | null
}

/** How long until a place that was taken is tried again, in milliseconds. */
const AGAIN_MS = 5000
const IDLE_MS = 5000
const MAX_CONNECTIONS = 64

/**
 * Answers GET requests. A worker runs with or without it: where its place is taken, as by the one that it replaces and
 * that still drains, it tries again and says so.
 */
export async function serveHttp(place: HttpPlace, routes: Routes, log: Log): Promise<HttpServer> {
  const server = createServer((request, response) => void answer(routes, request, response, log))
  server.maxConnections = MAX_CONNECTIONS
  server.keepAliveTimeout = IDLE_MS
  server.headersTimeout = IDLE_MS
  server.requestTimeout = IDLE_MS
  // Each listen hears its own error; without a listener one would end the worker.
  server.on('error', () => undefined)
  let timer: NodeJS.Timeout | undefined
  let closed = false
  const later = (why: Error) => {
    log.warn('AGIRUNNER_HTTP: nothing is answered there yet, trying again', { reason: why.message })
    timer = setTimeout(() => void tryAgain(), AGAIN_MS)
    timer.unref()
  }
  const tryAgain = async () => {
    const why = await listen(server, place)
    if (closed) server.close()
    else if (why !== null) later(why)
    else log.info('listening', { url: urlOf(server) })
  }
  const error = await listen(server, place)
  const unlucky = error === null || place.named ? error : await listen(server, { ...place, port: 0 })
  if (unlucky !== null) later(unlucky)
  return {
    url: () => urlOf(server),
    release: async () => {
      closed = true
      clearTimeout(timer)
      if (!server.listening) return
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

/** @returns why not; null when it listens */
async function listen(server: Server, { host, port }: HttpPlace): Promise<Error | null> {
  try {
    server.listen(port, host)
    await once(server, 'listening')
    return null
  } catch (error) {
    return error as Error
  }
}

function urlOf(server: Server): string | null {
  const at = server.address() as AddressInfo | null
  if (at === null) return null
  return `http://${at.family === 'IPv6' ? `[${at.address}]` : at.address}:${at.port}`
}

async function answer(
  routes: Routes,
  request: IncomingMessage,
  response: ServerResponse,
  log: Log,
): Promise<void> {
  const { status, type, body } = await answerTo(routes, request).catch((error: unknown) => {
    log.warn('a request could not be answered', { path: request.url, reason: messageOf(error) })
    return text(500, 'error: the answer could not be made; the log of the worker says why')
  })
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

async function answerTo(routes: Routes, { method, url }: IncomingMessage): Promise<Answer> {
  const path = (url ?? '/').split('?')[0] ?? '/'
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined
  if (route === undefined)
    return text(404, `there is nothing here; there is ${Object.keys(routes).join(', ')}`)
  if (method !== 'GET' && method !== 'HEAD') return text(405, 'use GET')
  return await route()
}

function text(status: number, line: string): Answer {
  return { status, type: 'text/plain; charset=utf-8', body: `${line}\n` }
}

export function json(status: number, value: unknown): Answer {
  return { status, type: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n` }
}
