import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Refusal } from './errors.js'
import type { Sessions } from './sessions.js'

const HEARTBEAT_MS = 15_000
/** When a browser comes back after a connection broke. */
const RETRY_MS = 2000

export interface StreamLimits {
  /** Streams at once. */
  readonly streams: number
  /** How long a reader may let the board wait, in milliseconds. */
  readonly stalledMs: number
  /** How often it is asked whether their sessions go on, in milliseconds. */
  readonly sessionMs: number
}

/** All streams of server-sent events of a board. */
export class EventStreams {
  readonly #open = new Set<EventStream>()
  readonly #sessions: Sessions
  readonly #limits: StreamLimits
  readonly #timer: NodeJS.Timeout

  constructor(sessions: Sessions, limits: StreamLimits) {
    this.#sessions = sessions
    this.#limits = limits
    this.#timer = setInterval(() => void this.#closeEnded(), limits.sessionMs)
  }

  /** Answers a request with a stream. @throws Refusal 503 when there are too many */
  open(request: FastifyRequest, reply: FastifyReply): EventStream {
    if (this.#open.size >= this.#limits.streams) {
      throw new Refusal(503, `the board has ${this.#open.size} streams open; close some pages of it`)
    }
    reply.hijack()
    const session = request.visitor?.session?.id ?? null
    const stream = new EventStream(reply, session, this.#limits.stalledMs)
    if (stream.signal.aborted) return stream
    this.#open.add(stream)
    stream.signal.addEventListener('abort', () => this.#open.delete(stream))
    return stream
  }

  /** Closes the streams of a session that has ended. */
  closeOf(session: string): void {
    for (const stream of this.#open) if (stream.session === session) stream.close()
  }

  closeAll(): void {
    clearInterval(this.#timer)
    for (const stream of this.#open) stream.close()
  }

  async #closeEnded(): Promise<void> {
    const ids = new Set([...this.#open].flatMap(({ session }) => session ?? []))
    for (const id of ids) {
      // While Redis is away nobody knows.
      if (!(await this.#sessions.goesOn(id).catch(() => true))) this.closeOf(id)
    }
  }
}

/** One stream of server-sent events, until one of both ends. It never holds more than what was sent last. */
export class EventStream {
  /** The id of the session that it belongs to; null for a program's. */
  readonly session: string | null
  readonly #response: ServerResponse
  readonly #stalledMs: number
  readonly #end = new AbortController()
  readonly #heartbeat: NodeJS.Timeout

  constructor(reply: FastifyReply, session: string | null, stalledMs: number) {
    this.session = session
    this.#response = reply.raw
    this.#stalledMs = stalledMs
    for (const [name, value] of Object.entries(reply.getHeaders())) {
      if (value !== undefined) this.#response.setHeader(name, value)
    }
    this.#response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // nginx would collect the events otherwise.
      'x-accel-buffering': 'no',
    })
    this.#response.write(`retry: ${RETRY_MS}\n\n`)
    this.#response.on('error', () => undefined)
    this.#response.on('close', () => this.#stop())
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS)
    // The reader may have gone before all of this.
    if (this.#response.closed || this.#response.destroyed) this.#stop()
  }

  /** Ends with the stream. */
  get signal(): AbortSignal {
    return this.#end.signal
  }

  /**
   * Sends an event and waits until its reader has taken most of it. A reader that takes nothing for too long loses the
   * connection: it comes back when it can, and goes on after the last id that it has.
   *
   * @param data one line of JSON
   */
  async send(event: string, data: string, id?: string): Promise<void> {
    if (this.signal.aborted) return
    const text = `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${data}\n\n`
    if (this.#response.write(text)) return
    const timeout = AbortSignal.timeout(this.#stalledMs)
    try {
      await once(this.#response, 'drain', { signal: AbortSignal.any([timeout, this.signal]) })
    } catch {
      this.#response.destroy()
    }
  }

  close(): void {
    this.#response.end()
    this.#stop()
  }

  #beat(): void {
    // A reader that does not read gets no more; `send` waits for it already.
    if (!this.#response.writableNeedDrain) this.#response.write(':\n\n')
  }

  #stop(): void {
    clearInterval(this.#heartbeat)
    this.#end.abort()
  }
}
