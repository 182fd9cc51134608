import type { ReleaseStack } from '../support/lifecycle.js'
import type { Log } from '../support/log.js'
import { type Observer, UNOBSERVED } from '../support/observer.js'
import { AttemptTrace } from './attempt-trace.js'
import { type HttpPlace, type HttpServer, json, serveHttp } from './http-server.js'
import { type Look, type Metrics, openMetrics } from './metrics.js'
import { Readiness, type ReadinessOptions } from './readiness.js'
import { openTracing, type TraceSettings, type Tracing } from './tracing.js'

export interface ObservingOptions {
  /** Null for nowhere. */
  readonly http: HttpPlace | null
  /** Null for no traces. */
  readonly traces: TraceSettings | null
  readonly queue: string
  readonly worker: string
  readonly log: Log
}

export interface Observing {
  readonly observer: Observer
  /** Answers from now on, where the operator wants it. */
  serve(look: Look & ReadinessOptions & { readonly strategy: string }): Promise<void>
  /** Where it answers; null for nowhere. */
  readonly url: () => string | null
}

/** Loads what the operator asked for, and nothing else: metrics for who may scrape them, traces for a collector. */
export async function openObserving(options: ObservingOptions, release: ReleaseStack): Promise<Observing> {
  const { http, traces, queue, worker, log } = options
  let strategy = ''
  const metrics = http === null ? null : await openMetrics({ id: worker, queue, strategy: () => strategy })
  const tracing = traces === null ? null : release.own(await openTracing(traces, { worker, log }), 'traces')
  let server: HttpServer | null = null
  return {
    observer: join(metrics, tracing, queue),
    serve: async look => {
      if (http === null || metrics === null) return
      strategy = look.strategy
      const readiness = new Readiness(look)
      const routes = {
        '/healthz': async () => json(200, { status: 'ok' }),
        '/readyz': async () => {
          const reasons = await readiness.problems()
          return json(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons })
        },
        '/metrics': async () => ({ status: 200, type: metrics.contentType, body: await metrics.text(look) }),
      }
      server = release.own(await serveHttp(http, routes, log), 'http')
    },
    url: () => server?.url() ?? null,
  }
}

function join(metrics: Metrics | null, tracing: Tracing | null, queue: string): Observer {
  return {
    ...UNOBSERVED,
    ...metrics,
    attempt: begun => {
      const trace = tracing ? new AttemptTrace(tracing, queue, begun) : UNOBSERVED.attempt(begun)
      if (metrics === null) return trace
      const event: typeof trace.event = one => {
        metrics.event(one)
        trace.event(one)
      }
      return { traceparent: trace.traceparent, event, end: () => trace.end() }
    },
  }
}
