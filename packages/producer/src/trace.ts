import type { Task } from '@agirunner/contracts'
import {
  type Context,
  context,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  trace,
} from '@opentelemetry/api'

/** The span of one task's enqueueing, where the host program traces itself; else nothing. */
export interface EnqueueSpan {
  /** What the job carries on: of this span, else what the task names; null for neither. */
  readonly traceparent: string | null
  end(): void
}

/**
 * Begins the span below the task's own `traceparent`, or below what is active in the host program. Without an SDK in that
 * program OpenTelemetry's API makes none, and only passes on what it was given.
 */
export function enqueueSpan({ taskId, traceparent }: Task, queue: string, startTime: Date): EnqueueSpan {
  const parent = traceparent === null ? context.active() : contextOf(traceparent)
  const attributes = {
    'messaging.system': 'bullmq',
    'messaging.operation.type': 'send',
    'messaging.destination.name': queue,
    'agirunner.task_id': taskId,
  }
  const tracer = trace.getTracer('@agirunner/producer')
  const span = tracer.startSpan(
    'agirunner enqueue',
    { kind: SpanKind.PRODUCER, attributes, startTime },
    parent,
  )
  return {
    traceparent: traceparentOf(span) ?? traceparent,
    end: () => span.end(),
  }
}

/** @param traceparent that the task's schema has let through */
function contextOf(traceparent: string): Context {
  const [, traceId = '', spanId = '', flags = ''] = traceparent.split('-')
  const sent = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true }
  return trace.setSpanContext(ROOT_CONTEXT, sent)
}

function traceparentOf(span: Span): string | null {
  const sent = span.spanContext()
  if (!isSpanContextValid(sent)) return null
  return `00-${sent.traceId}-${sent.spanId}-${sent.traceFlags.toString(16).padStart(2, '0')}`
}
