import type { NewEvent } from '@agirunner/contracts'
import type { Context, Span } from '@opentelemetry/api'
import { type BegunAttempt, carriedTraceparent, type ObservedAttempt } from '../support/observer.js'
import type { Tracing } from './tracing.js'

/**
 * One attempt as spans: its time in the queue and the attempt itself below whoever enqueued the task, and each phase below
 * the attempt. They are made from events when these are told, so that nothing is measured twice.
 */
export class AttemptTrace implements ObservedAttempt {
  readonly traceparent: string | null
  readonly #tracing: Pick<Tracing, 'api' | 'tracer'>
  readonly #sender: Context
  readonly #span: Span
  readonly #inside: Context
  #ended = false

  constructor(tracing: Pick<Tracing, 'api' | 'tracer'>, queue: string, begun: BegunAttempt) {
    const { api, tracer } = tracing
    this.#tracing = tracing
    this.#sender = contextOf(tracing, carriedTraceparent(begun.data))
    this.#span = tracer.startSpan(
      'agirunner attempt',
      {
        kind: api.SpanKind.CONSUMER,
        startTime: begun.adopted ? new Date() : new Date(begun.startedAt),
        attributes: {
          'messaging.system': 'bullmq',
          'messaging.operation.type': 'process',
          'messaging.destination.name': queue,
          'agirunner.task_id': begun.taskId,
          'agirunner.attempt': begun.attempt,
          'agirunner.adopted': begun.adopted,
        },
      },
      this.#sender,
    )
    this.#inside = api.trace.setSpan(this.#sender, this.#span)
    this.traceparent = traceparentOf(this.#span)
  }

  event({ type, phase, at, data }: NewEvent): void {
    if (type === 'phase.finished' && typeof data.durationMs === 'number')
      this.#phase(phase, Date.parse(at), data.durationMs)
    if (type === 'attempt.finished') this.#finish(Date.parse(at), data)
  }

  end(): void {
    if (this.#ended) return
    this.#span.setAttribute('agirunner.given_up', true)
    this.#close(Date.now())
  }

  #phase(phase: string, end: number, durationMs: number): void {
    const { tracer } = this.#tracing
    const attributes = { 'agirunner.phase': phase }
    // It waited before there was an attempt.
    const parent = phase === 'queued' ? this.#sender : this.#inside
    const startTime = new Date(end - durationMs)
    tracer.startSpan(`agirunner ${phase}`, { startTime, attributes }, parent).end(new Date(end))
  }

  #finish(end: number, { status, failure, drained }: NewEvent['data']): void {
    const { SpanStatusCode } = this.#tracing.api
    if (typeof status === 'string') this.#span.setAttribute('agirunner.status', status)
    if (drained === true) this.#span.setAttribute('agirunner.drained', true)
    if (typeof failure === 'string') {
      this.#span.setAttribute('error.type', failure)
      this.#span.setStatus({ code: SpanStatusCode.ERROR, message: failure })
    }
    this.#close(end)
  }

  #close(at: number): void {
    if (this.#ended) return
    this.#ended = true
    this.#span.end(new Date(at))
  }
}

/** @param traceparent that was looked at */
function contextOf({ api }: Pick<Tracing, 'api'>, traceparent: string | null): Context {
  const [, traceId, spanId, flags] = traceparent?.split('-') ?? []
  if (!traceId || !spanId || !flags) return api.ROOT_CONTEXT
  const sent = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true }
  return api.trace.setSpanContext(api.ROOT_CONTEXT, sent)
}

function traceparentOf(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`
}
