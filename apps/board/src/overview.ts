import { PRIORITIES, type WorkerRecord } from '@agirunner/contracts'
import type { Queue } from 'bullmq'
import type { Overview } from './api.js'
import { fromRedis } from './errors.js'
import type { Live } from './live.js'
import type { Waiting, WaitingTask } from './waiting.js'
import type { WorkerWatch } from './workers.js'

/** How many of those that wait are looked at for their tenants. */
const TENANTS_OF = 1000
const MINUTES = 60

export interface OverviewSources {
  readonly queue: Queue
  readonly waiting: Waiting
  readonly workers: WorkerWatch
  readonly live: Live
}

/** @throws Refusal 503 */
export async function readOverview({ queue, waiting, workers, live }: OverviewSources): Promise<Overview> {
  const [counts, byPriority, next, activity, records] = await Promise.all([
    fromRedis(queue.getJobCounts('waiting', 'prioritized', 'delayed', 'active')),
    readPriorities(queue),
    waiting.next(TENANTS_OF),
    fromRedis(live.activity(MINUTES)),
    workers.look(),
  ])
  return {
    at: new Date().toISOString(),
    queue: {
      waiting: (counts.waiting ?? 0) + (counts.prioritized ?? 0),
      delayed: counts.delayed ?? 0,
      active: counts.active ?? 0,
      byPriority,
      byTenant: tenantsOf(next),
      tenantsOf: next.length,
    },
    activity,
    workers: workers.views(),
    ...sumsOf(records),
  }
}

async function readPriorities(queue: Queue): Promise<Overview['queue']['byPriority']> {
  const counts = await fromRedis(queue.getCountsPerPriority(Object.values(PRIORITIES)))
  const of = (name: keyof typeof PRIORITIES) => counts[String(PRIORITIES[name])] ?? 0
  return { critical: of('critical'), high: of('high'), normal: of('normal'), low: of('low') }
}

function tenantsOf(tasks: readonly WaitingTask[]): Overview['queue']['byTenant'] {
  const counts = new Map<string, number>()
  for (const { tenantId } of tasks) counts.set(tenantId, (counts.get(tenantId) ?? 0) + 1)
  return [...counts]
    .map(([tenantId, waiting]) => ({ tenantId, waiting }))
    .sort((one, other) => other.waiting - one.waiting || one.tenantId.localeCompare(other.tenantId))
}

function sumsOf(records: readonly WorkerRecord[]): Pick<Overview, 'capacity' | 'parking' | 'cache'> {
  const sum = (of: (record: WorkerRecord) => number | undefined) =>
    records.reduce((total, record) => total + (of(record) ?? 0), 0)
  return {
    capacity: { running: sum(({ running }) => running.length), total: sum(({ concurrency }) => concurrency) },
    parking: {
      parked: sum(({ parking }) => parking?.parked.length),
      hits: sum(({ parking }) => parking?.hits),
      misses: sum(({ parking }) => parking?.misses),
    },
    cache: {
      hits: sum(({ cache }) => cache?.hits),
      misses: sum(({ cache }) => cache?.misses),
      bytes: sum(({ cache }) => cache?.bytes),
      maxBytes: sum(({ cache }) => cache?.maxBytes),
    },
  }
}
