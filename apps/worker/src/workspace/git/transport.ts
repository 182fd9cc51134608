import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { isIP } from 'node:net'
import { pipeline, type Readable } from 'node:stream'
import { TaskFailure } from '@agirunner/contracts/failure'
import type { GitHttpRequest, GitHttpResponse } from 'isomorphic-git'
import { checkedLookup, kindOf } from './address.js'
import { type Credentials, dropCredentials, sharesCredentials, withoutSecrets } from './credentials.js'
import { LineError, LineWatch } from './pkt-lines.js'

export interface TransportOptions {
  /** Whether loopback, private and link-local hosts may be asked. */
  readonly allowPrivate: boolean
  readonly connectMs: number
  /** From the request to the first byte of the answer. */
  readonly firstByteMs: number
  /** Between two pieces of the answer. */
  readonly idleMs: number
  /** Over all answers. */
  readonly maxBytes: number
  /** What nobody may be told when the server says it. */
  readonly credentials: Credentials | null
  /** Told how many bytes have come so far. */
  readonly received: (bytes: number) => void
}

/** A body that is read while it is sent. */
export interface Upload {
  readonly length: number
  readonly open: () => Readable
}

/** What may go well a moment later: the way to the server failed, or the server said that it is busy. */
export class TransientFailure extends TaskFailure {}

const MAX_REDIRECTS = 5
/** Statuses that are the caller's to judge: credentials are wanted; what was sent is too large. */
const TOLD: ReadonlySet<number> = new Set([401])
const TOLD_OF_UPLOADS: ReadonlySet<number> = new Set([401, 413])
const REDIRECTS = new Set([301, 302, 303, 307, 308])

/**
 * The HTTP client for isomorphic-git. Every connection has an agent and deadlines of its own, and the address is checked
 * when it is connected to, so that neither a redirect nor a name that resolves differently the second time leads
 * inside. The first thing that goes wrong is kept in `failure`, because the library may swallow or outlast it.
 */
export class GitTransport {
  readonly #options: TransportOptions
  readonly #agents = { http: new HttpAgent({ keepAlive: true }), https: new HttpsAgent({ keepAlive: true }) }
  /** Rejects with the first failure; lets a caller end what would hang. */
  readonly failed: Promise<never>
  #fail: (failure: TaskFailure) => void = () => undefined
  failure: TaskFailure | null = null
  #bytes = 0
  /** Where a redirect of the first request led: [from, to], both up to `/info/refs`. */
  #moved: readonly [string, string] | null = null

  constructor(options: TransportOptions) {
    this.#options = options
    this.failed = new Promise((_resolve, reject) => {
      this.#fail = reject
    })
    this.failed.catch(() => undefined)
  }

  readonly request = async (request: GitHttpRequest): Promise<GitHttpResponse> => {
    try {
      return await this.#follow(request)
    } catch (error) {
      throw this.#note(error)
    }
  }

  /**
   * Sends a body that is too large to be held, and gives the answer without looking into it. Redirects are followed as in
   * `request`, to where they led the question before.
   */
  readonly upload = async (request: Omit<GitHttpRequest, 'body'>, body: Upload): Promise<GitHttpResponse> => {
    try {
      const asked = new URL(request.url)
      const url = new URL(this.#relocate(request.url))
      const headers = { ...request.headers }
      if (!sharesCredentials(asked, url)) dropCredentials(headers)
      const response = await this.#send(url, 'POST', headers, body)
      const { statusCode = 0, headers: got } = response
      if (REDIRECTS.has(statusCode) && got.location !== undefined) this.#redirect(url, 'POST', got.location)
      return this.#toResponse(url, 'POST', response, null, TOLD_OF_UPLOADS)
    } catch (error) {
      throw this.#note(error)
    }
  }

  close(): void {
    this.#agents.http.destroy()
    this.#agents.https.destroy()
  }

  async #follow(request: GitHttpRequest): Promise<GitHttpResponse> {
    const method = request.method ?? 'GET'
    const body = request.body ? await collect(request.body) : null
    const headers = { ...request.headers }
    const asked = new URL(request.url)
    let url = new URL(this.#relocate(request.url))
    // Also where an earlier redirect led: the credentials are for the address that the task names.
    if (!sharesCredentials(asked, url)) dropCredentials(headers)
    for (let hops = 0; hops <= MAX_REDIRECTS; hops += 1) {
      const response = await this.#send(url, method, headers, body)
      const { statusCode = 0, headers: got } = response
      if (!REDIRECTS.has(statusCode) || got.location === undefined)
        return this.#toResponse(url, method, response, this.#watch(body), TOLD)
      response.destroy()
      url = this.#redirect(url, method, got.location)
      if (!sharesCredentials(asked, url)) dropCredentials(headers)
      this.#remember(request.url, url)
    }
    throw broken(`${url.host} redirects without end`)
  }

  #watch(body: Buffer | null): LineWatch {
    const isFetch = body !== null && !body.subarray(0, 64).includes('command=ls-refs')
    return new LineWatch(isFetch, text => withoutSecrets(text, this.#options.credentials))
  }

  /** Where a redirect leads, if it may. An answer to a POST is never redirected by an honest git server. */
  #redirect(from: URL, method: string, location: string): URL {
    if (!URL.canParse(location, from.href)) throw broken(`${from.host} redirects to no address`)
    const to = new URL(location, from)
    to.username = ''
    to.password = ''
    if (method !== 'GET') throw broken(`${from.host} redirects a fetch`)
    if (!/^https?:$/.test(to.protocol))
      throw forbidden(`${from.host} redirects to ${to.protocol.slice(0, 20)}`)
    if (from.protocol === 'https:' && to.protocol === 'http:')
      throw forbidden(`${from.host} redirects from https to http`)
    return to
  }

  #remember(asked: string, url: URL): void {
    const from = asked.split('/info/refs')[0]
    const to = url.href.split('/info/refs')[0]
    if (from !== undefined && to !== undefined && url.href.includes('/info/refs')) this.#moved = [from, to]
  }

  #relocate(url: string): string {
    const [from, to] = this.#moved ?? ['', '']
    return this.#moved && url.startsWith(from) ? to + url.slice(from.length) : url
  }

  #send(
    url: URL,
    method: string,
    headers: Record<string, string>,
    body: Buffer | Upload | null,
  ): Promise<IncomingMessage> {
    const secure = url.protocol === 'https:'
    const withSecret = Object.keys(headers).some(name => name.toLowerCase() === 'authorization')
    const check = this.#checker(url, withSecret && !secure)
    const host = url.hostname.replace(/^\[|\]$/g, '')
    if (isIP(host)) check(host)
    const options: RequestOptions = {
      method,
      headers: { ...headers, ...(body ? { 'content-length': body.length } : {}) },
      agent: secure ? this.#agents.https : this.#agents.http,
      lookup: checkedLookup(check),
    }
    return new Promise((resolve, reject) => {
      const sent = (secure ? httpsRequest : httpRequest)(url, options)
      const { connectMs, firstByteMs, idleMs } = this.#options
      const late = (what: string, ms: number) =>
        sent.destroy(timeout(`${url.host} did not ${what} within ${ms / 1000} s`))
      let timer = setTimeout(() => late('accept the connection', connectMs), connectMs)
      const connected = () => {
        clearTimeout(timer)
        timer = setTimeout(() => late('answer', firstByteMs), firstByteMs)
      }
      sent.once('socket', socket => {
        if (socket.connecting) socket.once(secure ? 'secureConnect' : 'connect', connected)
        else connected()
      })
      sent.once('response', response => {
        clearTimeout(timer)
        resolve(response)
      })
      sent.once('error', error => {
        clearTimeout(timer)
        reject(toTransportFailure(error, url))
      })
      if (body === null || !('open' in body)) sent.end(body ?? undefined)
      else {
        const taken = () => {
          clearTimeout(timer)
          timer = setTimeout(() => late('take what is sent', idleMs), idleMs)
        }
        // An error of either side is the request's, and heard there.
        pipeline(body.open().on('data', taken), sent, error => {
          if (error) sent.destroy(error)
          else connected()
        })
      }
    })
  }

  /** Throws for an address that this request may not reach. */
  #checker(url: URL, secretInClear: boolean): (address: string) => void {
    return address => {
      const kind = kindOf(address)
      if (kind === 'metadata') throw forbidden(`${url.hostname} is a metadata address`)
      if (kind === 'private' && !this.#options.allowPrivate) {
        throw forbidden(`${url.hostname} is a loopback, private or link-local address`)
      }
      if (kind === 'public' && secretInClear) {
        throw forbidden(
          'credentials may only travel over https',
          'use an https address for workspace.source.url',
        )
      }
    }
  }

  #toResponse(
    url: URL,
    method: string,
    response: IncomingMessage,
    lines: LineWatch | null,
    told: ReadonlySet<number>,
  ): GitHttpResponse {
    const failure = statusFailure(response.statusCode ?? 0, url)
    if (failure && !told.has(response.statusCode ?? 0)) {
      response.destroy()
      throw failure
    }
    const headers = Object.fromEntries(
      Object.entries(response.headers).map(([name, value]) => [name, String(value)]),
    )
    return {
      url: url.href,
      method,
      statusCode: response.statusCode ?? 0,
      statusMessage: response.statusMessage ?? '',
      headers,
      // What comes with a refusal is a page for people.
      body: this.#read(response, url, failure ? null : lines),
    }
  }

  async *#read(
    response: IncomingMessage,
    url: URL,
    lines: LineWatch | null,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const { idleMs, maxBytes, received } = this.#options
    const stalled = () => response.destroy(timeout(`${url.host} sent nothing for ${idleMs / 1000} s`))
    let timer = setTimeout(stalled, idleMs)
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        clearTimeout(timer)
        this.#bytes += chunk.length
        received(this.#bytes)
        if (this.#bytes > maxBytes) {
          throw new TaskFailure(
            'workspace.too_large',
            `${url.host} sent more than the ${maxBytes} bytes allowed`,
          )
        }
        lines?.push(chunk)
        yield chunk
        timer = setTimeout(stalled, idleMs)
      }
      if (!response.complete) throw interrupted(`${url.host} broke off its answer`)
      lines?.end()
    } catch (error) {
      throw this.#note(toTransportFailure(error as Error, url))
    } finally {
      clearTimeout(timer)
      response.destroy()
    }
  }

  #note(error: unknown): unknown {
    if (error instanceof TaskFailure && !this.failure) {
      this.failure = error
      this.#fail(error)
    }
    return error
  }
}

/** The failure that an HTTP status stands for; null for one to go on with. */
export function statusFailure(status: number, url: URL): TaskFailure | null {
  const where = `${url.host} answered ${status}`
  if (status === 200) return null
  if (status === 401 || status === 403)
    return new TaskFailure('workspace.auth_failed', `${where}: it wants other credentials`)
  if (status === 404 || status === 410)
    return new TaskFailure('workspace.not_found', `${where}: there is no such repository`)
  return BUSY.has(status) ? interrupted(where) : broken(where)
}

/** Too many requests, and what gateways say while a server restarts. */
const BUSY = new Set([408, 429, 500, 502, 503, 504])

const UNREACHABLE = new Set([
  'ENOTFOUND',
  'EAI_AGAIN',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'EHOSTDOWN',
])

function toTransportFailure(error: Error, url: URL): TaskFailure {
  if (error instanceof TaskFailure) return error
  if (error instanceof LineError)
    return broken(`${url.host} does not answer like a git server; ${error.message}`)
  const code = (error as NodeJS.ErrnoException).code ?? firstCode(error) ?? ''
  if (UNREACHABLE.has(code)) {
    // That there is no such name is an answer.
    const Failure = code === 'ENOTFOUND' ? TaskFailure : TransientFailure
    return new Failure('workspace.remote_unreachable', `${url.host} can't be reached; ${code}`, {
      cause: error,
    })
  }
  if (code === 'ETIMEDOUT') return timeout(`${url.host} did not answer; ${code}`)
  return new TransientFailure(
    'workspace.remote_broken',
    `${url.host} broke the connection; ${code || error.message}`,
    { cause: error },
  )
}

/** Node tries several addresses at once and wraps what each said. */
function firstCode(error: Error): string | undefined {
  return error instanceof AggregateError
    ? (error.errors[0] as NodeJS.ErrnoException | undefined)?.code
    : undefined
}

async function collect(body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const broken = (message: string) => new TaskFailure('workspace.remote_broken', message)
const interrupted = (message: string) => new TransientFailure('workspace.remote_broken', message)
const timeout = (message: string) => new TransientFailure('workspace.timeout', message)
const forbidden = (message: string, hint?: string) =>
  new TaskFailure('workspace.url_forbidden', message, hint === undefined ? {} : { hint })
