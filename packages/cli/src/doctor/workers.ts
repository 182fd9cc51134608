import type { Capability, WorkerRecord } from '@agirunner/contracts'
import type { Call } from '../command.js'
import { bad, type Finding, ok, warn } from './finding.js'

/** ` (93 % of 120 from the cache)`: nothing while there was none, or of a worker that does not tell. */
function hitsOf(cache: WorkerRecord['cache']): string {
  const total = (cache?.hits ?? 0) + (cache?.misses ?? 0)
  return cache && total > 0 ? ` (${Math.round((100 * cache.hits) / total)} % of ${total} from the cache)` : ''
}

/** What waits for tasks now, and of how many tasks one waited: nothing where none can. */
function parkedOf(parking: WorkerRecord['parking']): string {
  if (!parking) return ''
  const { hits, misses, parked } = parking
  const total = hits + misses
  const share = total > 0 ? ` (${Math.round((100 * hits) / total)} % of ${total} tasks found one)` : ''
  return `, ${parked.length} parked${share}`
}

/** Which workers are alive on the queue, and how they make workspaces. */
export async function checkWorkers({ settings, producer }: Call): Promise<Finding[]> {
  try {
    const workers = await producer().workers()
    if (workers.length === 0) {
      return [warn('workers', `none is alive on queue "${settings.queue}": tasks wait`, 'run `agirunner up`')]
    }
    return workers.flatMap(worker => [stateOf(worker), ...(worker.capabilities ?? []).map(capabilityOf)])
  } catch {
    return [bad('workers', 'they can be asked for only when Redis answers', 'see the line on Redis')]
  }
}

function stateOf(worker: WorkerRecord): Finding {
  const { http, id, state, strategy, concurrency, running, engine, cache, parking, hostRoots = [] } = worker
  return ok(
    'worker',
    `${id}: ${state}, ${running.length} of ${concurrency} running, workspaces by ${strategy}${hitsOf(cache)}${parkedOf(parking)}, ${engine}, ${foldersOf(hostRoots)}, ${http ? `answers at ${http}` : 'answers nowhere'}`,
  )
}

/** What is missing is no fault of the set-up: a task that needs it is refused, all others run. */
function capabilityOf({ name, state, detail, fix }: Capability): Finding {
  if (state === 'enforced') return ok('capability', `${name}: ${detail}`)
  return warn('capability', `${name} is ${state}: ${detail}`, fix ?? 'nothing, if no task needs it')
}

function foldersOf(hostRoots: readonly string[]): string {
  return hostRoots.length === 0
    ? 'no folders of the host for tasks'
    : `tasks may use the host's ${hostRoots.join(', ')}`
}
