import { randomBytes } from 'node:crypto'
import { PHASES } from '@agirunner/contracts'
import { eventually } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { BasicTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { type CollectedSpan, type Collector, startCollector } from './observe/collector.js'
import { createWorld, killForGood, newTaskId, readLogs, type World } from './support.js'

let world: World
let collector: Collector
beforeEach(async () => {
  world = await createWorld()
  collector = await startCollector()
})
afterEach(async () => {
  trace.disable()
  await world.close()
  await collector.close()
})

const tracing = (protocol: string) => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
  OTEL_BSP_SCHEDULE_DELAY: '100',
})

/** As a platform that traces itself would. */
function traceThisProcess(): void {
  const exporter = new OTLPTraceExporter({ url: `${collector.url}/v1/traces` })
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }),
  )
}

const of = (taskId: string) =>
  collector.spans.filter(
    ({ traceId }) =>
      traceId === collector.spans.find(span => span.attributes['agirunner.task_id'] === taskId)?.traceId,
  )

async function attemptsOf(taskId: string, count: number): Promise<CollectedSpan[]> {
  const attempts = () => of(taskId).filter(({ name }) => name === 'agirunner attempt')
  await eventually(async () => attempts().length === count, { what: `${count} attempts`, within: 20_000 })
  return attempts()
}

const milliseconds = (span: CollectedSpan | undefined) =>
  (Number(span?.endTimeUnixNano) - Number(span?.startTimeUnixNano)) / 1e6

describe('the trace of a task', () => {
  it('holds its producer, its queue and every phase, and reaches into its container', async () => {
    traceThisProcess()
    await world.startWorker(tracing('http/json'))
    const taskId = newTaskId('trace')
    await world.producer.enqueue({
      taskId,
      environment: { bootstrap: ['true'] },
      run: { script: 'sleep 0.3; echo "$TRACEPARENT"' },
    })
    const result = await world.producer.waitForResult(taskId)
    const [attempt] = await attemptsOf(taskId, 1)
    await eventually(() => of(taskId).some(({ name }) => name === 'agirunner cleanup'))
    const spans = of(taskId)
    const named = (name: string) => spans.find(span => span.name === `agirunner ${name}`)
    const sent = named('enqueue')
    expect(sent?.parentSpanId ?? '').toBe('')
    expect(attempt).toMatchObject({ parentSpanId: sent?.spanId, service: 'agirunner-worker' })
    expect(spans.map(({ name }) => name).toSorted()).toEqual(
      ['enqueue', 'attempt', ...PHASES].map(name => `agirunner ${name}`).toSorted(),
    )
    expect(named('queued')?.parentSpanId).toBe(sent?.spanId)
    for (const phase of PHASES.filter(one => one !== 'queued'))
      expect([phase, named(phase)?.parentSpanId]).toEqual([phase, attempt?.spanId])
    expect(Math.abs(milliseconds(named('run')) - (result.timings.runMs ?? 0))).toBeLessThan(2)
    expect((await readLogs(world.producer, taskId)).stdout).toBe(
      `00-${sent?.traceId}-${attempt?.spanId}-01\n`,
    )
  })

  it('goes on with the context that the task names, and says what failed', async () => {
    await world.startWorker(tracing('http/json'))
    const taskId = newTaskId('trace')
    const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')]
    await world.producer.enqueue({
      taskId,
      traceparent: `00-${traceId}-${spanId}-01`,
      run: { script: 'exit 7' },
    })
    await world.producer.waitForResult(taskId)
    const [attempt] = await attemptsOf(taskId, 1)
    expect(attempt).toMatchObject({
      traceId,
      parentSpanId: spanId,
      status: { code: 2, message: 'task.exit_nonzero' },
      attributes: {
        'agirunner.status': 'failed',
        'error.type': 'task.exit_nonzero',
        'messaging.destination.name': world.queue,
      },
    })
    // Whoever sent it decides whether it is recorded.
    const unsampled = newTaskId('trace')
    await world.producer.enqueue({
      taskId: unsampled,
      traceparent: `00-${traceId}-${spanId}-00`,
      run: { script: 'echo "$TRACEPARENT"' },
    })
    await world.producer.waitForResult(unsampled)
    expect((await readLogs(world.producer, unsampled)).stdout).toMatch(
      new RegExp(`^00-${traceId}-[0-9a-f]{16}-00\n$`),
    )
    expect(of(unsampled)).toEqual([])
  })

  it('goes on with the worker that goes on with the task of a dead one', async () => {
    traceThisProcess()
    const first = await world.startWorker(tracing('http/json'))
    const taskId = newTaskId('trace')
    const script = 'echo started; while [ ! -e "$HOME/end" ]; do sleep 0.1; done'
    await world.producer.enqueue({ taskId, run: { script }, limits: { grace: 0 } })
    for await (const { text } of world.producer.logs(taskId, { follow: true }))
      if (text.includes('started')) break
    first.kill('SIGKILL')
    await first.exited
    await world.startWorker(tracing('http/json'))
    await world.producer.cancel(taskId)
    await world.producer.waitForResult(taskId)
    const [attempt] = await attemptsOf(taskId, 1)
    const sent = of(taskId).find(({ name }) => name === 'agirunner enqueue')
    expect(attempt).toMatchObject({
      parentSpanId: sent?.spanId,
      attributes: { 'agirunner.adopted': true, 'agirunner.status': 'canceled' },
    })
    const run = of(taskId).find(({ name }) => name === 'agirunner run')
    expect(run?.parentSpanId).toBe(attempt?.spanId)
  })

  it('has an attempt for each that a dead worker lost', async () => {
    const first = await world.startWorker(tracing('http/json'))
    const taskId = newTaskId('trace')
    const script = 'echo "attempt $AGIRUNNER_ATTEMPT"; [ "$AGIRUNNER_ATTEMPT" != 1 ] || sleep 600'
    const retry = { maxAttempts: 2, backoff: { delay: 0 } }
    await world.producer.enqueue({
      taskId,
      traceparent: `00-${'1'.repeat(32)}-${'2'.repeat(16)}-01`,
      run: { script },
      retry,
    })
    for await (const { text } of world.producer.logs(taskId, { follow: true }))
      if (text.includes('attempt 1')) break
    await killForGood(first, world.dataDir)
    await world.startWorker(tracing('http/json'))
    await world.producer.waitForResult(taskId)
    const [second] = await attemptsOf(taskId, 1)
    expect(second).toMatchObject({ traceId: '1'.repeat(32), attributes: { 'agirunner.attempt': 2 } })
  }, 90_000)

  it('is sent as protobuf unless somebody says otherwise', async () => {
    const { OTEL_EXPORTER_OTLP_PROTOCOL: _unset, ...env } = tracing('')
    await world.startWorker(env)
    const taskId = newTaskId('trace')
    await world.producer.enqueue({ taskId, run: { script: 'true' } })
    await world.producer.waitForResult(taskId)
    await eventually(async () => collector.raw.some(({ bytes }) => bytes.includes(taskId)), {
      within: 20_000,
    })
    expect(new Set(collector.raw.map(({ type }) => type))).toEqual(new Set(['application/x-protobuf']))
  })
})

describe('a worker', () => {
  it('runs tasks though nobody collects its traces, and passes on what it was given without tracing', async () => {
    const env = { ...tracing('http/json'), OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1' }
    const lost = await world.startWorker(env)
    const one = newTaskId('trace')
    await world.producer.enqueue({ taskId: one, run: { script: 'true' } })
    expect((await world.producer.waitForResult(one)).status).toBe('succeeded')
    expect((await lost.stop()).code).toBe(0)
    await world.startWorker()
    const two = newTaskId('trace')
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
    await world.producer.enqueue({ taskId: two, traceparent, run: { script: 'echo "$TRACEPARENT"' } })
    await world.producer.waitForResult(two)
    expect((await readLogs(world.producer, two)).stdout).toBe(`${traceparent}\n`)
  })
})
