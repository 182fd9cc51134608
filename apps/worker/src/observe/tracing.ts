import { hostname } from 'node:os'
import type { Tracer } from '@opentelemetry/api'
import type { SpanExporter } from '@opentelemetry/sdk-trace-base'
import type { Releasable } from '../support/lifecycle.js'
import { type Log, messageOf } from '../support/log.js'

export const TRACE_EXPORTERS = ['otlp', 'console'] as const
export const TRACE_PROTOCOLS = ['http/protobuf', 'http/json', 'grpc'] as const

/** What of OTEL_* chooses code; where to, headers, sampling and batching are read by OpenTelemetry's own SDK. */
export interface TraceSettings {
  readonly exporter: (typeof TRACE_EXPORTERS)[number]
  readonly protocol: (typeof TRACE_PROTOCOLS)[number]
}

export type Api = typeof import('@opentelemetry/api')

export interface Tracing extends Releasable {
  readonly api: Api
  readonly tracer: Tracer
}

/** How long the last spans may take to leave a worker that ends, in milliseconds. */
const FLUSH_MS = 5000
/** A collector that is away is told of at most this often, in milliseconds. */
const SAY_MS = 60_000
const NAME = 'agirunner-worker'

/** Loads OpenTelemetry, which a worker without OTEL_* never does: on a busy machine of two cores it took 0.4 s and 6 MB. */
export async function openTracing(
  { exporter, protocol }: TraceSettings,
  { worker, log }: { worker: string; log: Log },
): Promise<Tracing> {
  const [api, sdk, { defaultResource, detectResources, envDetector, resourceFromAttributes }] =
    await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/sdk-trace-base'),
      import('@opentelemetry/resources'),
    ])
  api.diag.setLogger(complaints(log), { logLevel: api.DiagLogLevel.WARN, suppressOverrideMessage: true })
  const own = { 'service.name': NAME, 'service.instance.id': worker, 'host.name': hostname() }
  const provider = new sdk.BasicTracerProvider({
    // What the operator says in OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME wins.
    resource: defaultResource()
      .merge(resourceFromAttributes(own))
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [
      new sdk.BatchSpanProcessor(
        exporter === 'console' ? new sdk.ConsoleSpanExporter() : await otlpExporter(protocol),
      ),
    ],
  })
  return {
    api,
    tracer: provider.getTracer(NAME),
    release: async () => {
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<void>(resolve => {
        timer = setTimeout(resolve, FLUSH_MS)
      })
      await Promise.race([provider.shutdown(), late])
      clearTimeout(timer)
    },
  }
}

async function otlpExporter(protocol: TraceSettings['protocol']): Promise<SpanExporter> {
  switch (protocol) {
    case 'http/json':
      return new (await import('@opentelemetry/exporter-trace-otlp-http')).OTLPTraceExporter()
    case 'grpc':
      return new (await import('@opentelemetry/exporter-trace-otlp-grpc')).OTLPTraceExporter()
    case 'http/protobuf':
      return new (await import('@opentelemetry/exporter-trace-otlp-proto')).OTLPTraceExporter()
  }
}

/** What OpenTelemetry complains about, in the worker's log: tasks run with or without a collector. */
function complaints(log: Log) {
  let saidAt = Number.NEGATIVE_INFINITY
  const say = (message: string, ...more: unknown[]) => {
    if (performance.now() - saidAt < SAY_MS) return
    saidAt = performance.now()
    log.warn('traces', { reason: [message, ...more.map(messageOf)].join(' ').slice(0, 500) })
  }
  const ignore = () => undefined
  return { error: say, warn: say, info: ignore, debug: ignore, verbose: ignore }
}
