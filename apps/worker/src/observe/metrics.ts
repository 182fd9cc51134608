import {
  FAILURE_CODES,
  type NewEvent,
  PHASES,
  TaskFailure,
  type TaskResult,
  type WorkerRecord,
} from '@agirunner/contracts'
import type { Gauge, Registry } from 'prom-client'
import { statusOf } from '../report/outcome.js'
import type { Renewal } from '../support/observer.js'

/** What is read when somebody asks, and not before. */
export interface Look {
  readonly running: () => number
  readonly concurrency: number
  readonly draining: () => boolean
  readonly parking: () => WorkerRecord['parking'] | undefined
  readonly cache: () => NonNullable<WorkerRecord['cache']>
  /** Bytes that are free beside the data folder, and what must stay free. */
  readonly disk: () => Promise<{ freeBytes: number; floorBytes: number }>
  /** Jobs by state; rejects when Redis does not say. */
  readonly queue: () => Promise<Readonly<Record<string, number>>>
}

/** Seconds: from a parked container's few milliseconds to the longest timeout that is usual. */
const PHASE_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600]
/** What stands in a label where there is no failure: an empty label is the same as none. */
const NO_FAILURE = 'none'
const RENEWALS: readonly Renewal[] = ['kept', 'lost', 'failed']

/** What is counted as it happens. No label holds what a task says of itself: their number is bounded by the runtime's own lists. */
export interface Counters {
  event(event: NewEvent): void
  finished(result: TaskResult): void
  renewed(renewal: Renewal): void
  pulled(code: string | null): void
  reaped(count: number): void
  leaked(): void
}

export interface Metrics extends Counters {
  readonly contentType: string
  /** In Prometheus' text format. */
  text(look: Look): Promise<string>
}

/** prom-client is loaded here, so that a worker that nobody scrapes does not have it in memory. */
export async function openMetrics(worker: {
  id: string
  queue: string
  strategy: () => string
}): Promise<Metrics> {
  const client = await import('prom-client')
  const registry = new client.Registry()
  const counters = makeCounters(client, registry)
  const read = makeReadings(client, registry, worker.queue)
  const info = new client.Gauge({
    name: 'agirunner_worker_info',
    help: 'Always 1; its labels say which worker this is.',
    labelNames: ['worker', 'strategy'],
    registers: [registry],
  })
  return {
    ...counters,
    contentType: registry.contentType,
    text: async look => {
      info.set({ worker: worker.id, strategy: worker.strategy() }, 1)
      await read(look)
      return await registry.metrics()
    },
  }
}

type Client = typeof import('prom-client')

function makeCounters(client: Client, registry: Registry): Counters {
  const counter = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new client.Counter({ name: `agirunner_${name}`, help, labelNames, registers: [registry] })
  const tasks = counter('tasks_total', 'Tasks that this worker wrote the result of.', ['status', 'code'])
  const attempts = counter('attempts_total', 'Attempts by how they ended: ended, retried or drained.', [
    'outcome',
  ])
  const phases = new client.Histogram({
    name: 'agirunner_phase_duration_seconds',
    help: 'How long the phases of attempts took.',
    labelNames: ['phase'],
    buckets: PHASE_BUCKETS,
    registers: [registry],
  })
  const pulls = counter('image_pulls_total', 'Pulls of images, tasks that shared one counted once.', ['code'])
  const logBytes = counter('log_bytes_total', 'Bytes that tasks printed, as known when they ended.')
  const renewals = counter('lease_renewals_total', 'Renewals of leases: kept, lost or failed.', ['outcome'])
  const reaped = counter('leaks_reaped_total', 'Things of dead workers that were removed.')
  const leaked = counter(
    'cleanup_failures_total',
    'Steps of a cleanup that failed and were left to the reaper.',
  )
  // There from the start: what appears with its first increase has no rate then.
  tasks.inc({ status: 'succeeded', code: NO_FAILURE }, 0)
  for (const code of FAILURE_CODES) tasks.inc({ status: statusOf(new TaskFailure(code, '')), code }, 0)
  for (const outcome of ['ended', 'retried', 'drained']) attempts.inc({ outcome }, 0)
  for (const phase of PHASES) phases.zero({ phase })
  for (const outcome of RENEWALS) renewals.inc({ outcome }, 0)
  pulls.inc({ code: NO_FAILURE }, 0)
  return {
    event: ({ type, phase, data }) => {
      if (type === 'phase.finished' && typeof data.durationMs === 'number')
        phases.observe({ phase }, data.durationMs / 1000)
      if (type === 'attempt.finished') attempts.inc({ outcome: outcomeOf(data) })
    },
    finished: ({ status, failure, logs }) => {
      tasks.inc({ status, code: failure?.code ?? NO_FAILURE })
      if (logs) logBytes.inc(logs.bytes)
    },
    renewed: outcome => renewals.inc({ outcome }),
    pulled: code => pulls.inc({ code: code ?? NO_FAILURE }),
    reaped: count => reaped.inc(count),
    leaked: () => leaked.inc(),
  }
}

function outcomeOf(data: NewEvent['data']): 'ended' | 'retried' | 'drained' {
  if (data.drained === true) return 'drained'
  return 'retryInMs' in data ? 'retried' : 'ended'
}

/** What others know already is read from them at each scrape, and not counted a second time. */
function makeReadings(client: Client, registry: Registry, queue: string): (look: Look) => Promise<void> {
  const gauge = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new client.Gauge({ name: `agirunner_${name}`, help, labelNames, registers: [registry] })
  /** A counter that somebody else counts. */
  const counted = (name: string, help: string) => {
    const counter = new client.Counter({ name: `agirunner_${name}`, help, registers: [registry] })
    return (value: number) => {
      counter.reset()
      counter.inc(value)
    }
  }
  const running = gauge('tasks_running', 'Tasks that this worker has now.')
  const concurrency = gauge('tasks_capacity', 'Tasks that this worker takes at once.')
  const draining = gauge('worker_draining', '1 while the worker takes no more tasks because it is to stop.')
  const parked = gauge('parked_containers', 'Containers that wait for a task, by the hash of their shape.', [
    'key',
  ])
  const oldest = gauge(
    'parked_oldest_age_seconds',
    'How long the oldest of them has waited; 0 when none does.',
  )
  const hits = counted('parking_hits_total', 'Tasks that got a container that waited.')
  const misses = counted('parking_misses_total', 'Tasks that did not.')
  const cacheBytes = gauge('cache_bytes', 'What the cache of repositories and snapshots occupies.')
  const cacheLimit = gauge('cache_limit_bytes', 'What it may occupy.')
  const cacheHits = counted('cache_hits_total', 'Workspaces that were made from what was in the cache.')
  const cacheMisses = counted('cache_misses_total', 'Workspaces that something had to be fetched for.')
  const free = gauge('disk_free_bytes', 'Bytes that are free beside the data folder.')
  const floor = gauge('disk_floor_bytes', 'Below this the worker is not ready.')
  const jobs = gauge('queue_jobs', 'Jobs of the queue by state; every worker of a queue says the same.', [
    'queue',
    'state',
  ])
  const resident = gauge(
    'process_resident_memory_bytes',
    'What the worker has in memory, without its children.',
  )
  const cpu = counted('process_cpu_seconds_total', 'Processor time of the worker, without its children.')
  const started = gauge('process_start_time_seconds', 'When the worker was started, in Unix seconds.')
  started.set(Date.now() / 1000 - process.uptime())
  return async look => {
    running.set(look.running())
    concurrency.set(look.concurrency)
    draining.set(look.draining() ? 1 : 0)
    const parking = look.parking()
    hits(parking?.hits ?? 0)
    misses(parking?.misses ?? 0)
    setParked(parked, oldest, parking?.parked ?? [])
    const cache = look.cache()
    cacheBytes.set(cache.bytes)
    cacheLimit.set(cache.maxBytes)
    cacheHits(cache.hits)
    cacheMisses(cache.misses)
    resident.set(process.memoryUsage.rss())
    const { user, system } = process.cpuUsage()
    cpu((user + system) / 1e6)
    await Promise.all([readDisk(look, free, floor), readQueue(look, jobs, queue)])
  }
}

// A reading that can't be had now leaves its metric out: an old value would look like a true one.

async function readDisk(look: Look, free: Gauge, floor: Gauge): Promise<void> {
  try {
    const { freeBytes, floorBytes } = await look.disk()
    free.set(freeBytes)
    floor.set(floorBytes)
  } catch {
    free.remove()
  }
}

async function readQueue(look: Look, jobs: Gauge<'queue' | 'state'>, queue: string): Promise<void> {
  const counts = await look.queue().catch(() => ({}))
  jobs.reset()
  for (const [state, count] of Object.entries(counts)) jobs.set({ queue, state }, count)
}

type Parked = NonNullable<WorkerRecord['parking']>['parked']

/** Shapes come and go with the tasks: only those that wait now are told, so their number is bounded by AGIRUNNER_PARK. */
function setParked(parked: Gauge<'key'>, oldest: Gauge, waiting: Parked): void {
  parked.reset()
  for (const { shape } of waiting) parked.inc({ key: shape ?? 'unknown' })
  const since = Math.min(...waiting.map(one => Date.parse(one.parkedAt)))
  oldest.set(waiting.length === 0 ? 0 : Math.max(0, (Date.now() - since) / 1000))
}
