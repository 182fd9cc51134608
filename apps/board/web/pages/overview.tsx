import type { Overview, WorkerView } from '../../src/api.js'
import { useNow, useStore, useTitle } from '../app/hooks.js'
import { overview } from '../app/live.js'
import { useTaskList } from '../app/task-list.js'
import { age, bytes, count, duration, percent, words } from '../lib/format.js'
import { Bars } from '../parts/bars.js'
import { Legend, Minutes } from '../parts/minutes.js'
import { Complaint, Loading } from '../parts/page-state.js'
import { Status } from '../parts/status.js'
import { TaskTable } from '../parts/task-table.js'

const RECENT = 12

export function OverviewPage() {
  const seen = useStore(overview)
  useTitle('Overview')
  return (
    <>
      <h1 class="hidden">Overview</h1>
      {seen === null ? (
        <Loading what="the overview" />
      ) : (
        <>
          <Tiles seen={seen} />
          <div class="grid">
            <Queue queue={seen.queue} />
            <LastHour activity={seen.activity} />
          </div>
          <Workers workers={seen.workers} />
        </>
      )}
      <RecentTasks />
    </>
  )
}

function Tiles({ seen: { queue, capacity, parking, cache } }: { seen: Overview }) {
  return (
    <dl class="tiles">
      <Tile
        name="Waiting"
        value={count(queue.waiting)}
        more={queue.delayed > 0 ? `and ${count(queue.delayed)} for later` : 'none for later'}
      />
      <Tile
        name="Running"
        value={count(capacity.running)}
        of={count(capacity.total)}
        more={share(capacity.running, capacity.total, 'of the capacity', 'no worker')}
        part={capacity.total > 0 ? capacity.running / capacity.total : 0}
      />
      <Tile
        name="Parked containers"
        value={count(parking.parked)}
        more={share(
          parking.hits,
          parking.hits + parking.misses,
          'of tasks found one',
          'no task asked for one',
        )}
      />
      <Tile
        name="Cache"
        value={bytes(cache.bytes)}
        of={bytes(cache.maxBytes)}
        more={share(cache.hits, cache.hits + cache.misses, 'of workspaces were in it', 'no workspace yet')}
        part={cache.maxBytes > 0 ? cache.bytes / cache.maxBytes : 0}
      />
    </dl>
  )
}

const share = (part: number, whole: number, of: string, none: string): string =>
  whole > 0 ? `${percent(part, whole)} ${of}` : none

interface TileProps {
  readonly name: string
  readonly value: string
  readonly of?: string
  readonly more: string
  /** From 0 to 1. */
  readonly part?: number
}

function Tile({ name, value, of, more, part }: TileProps) {
  return (
    <div class="tile card">
      <dt>{name}</dt>
      <dd>
        <b>{value}</b>
        {of !== undefined && <span> / {of}</span>}
        <small>{more}</small>
        {part !== undefined && (
          <span class="meter" aria-hidden="true">
            <span style={{ width: `${Math.min(1, part) * 100}%` }} />
          </span>
        )}
      </dd>
    </div>
  )
}

function Queue({ queue }: { queue: Overview['queue'] }) {
  const { byPriority, byTenant, tenantsOf, waiting } = queue
  return (
    <section class="card" aria-labelledby="queue">
      <h2 id="queue">Queue depth</h2>
      <h3>By priority</h3>
      <Bars
        empty="Nothing waits."
        items={(['critical', 'high', 'normal', 'low'] as const).map(name => ({
          name,
          value: byPriority[name],
        }))}
      />
      <h3>By tenant</h3>
      <Bars
        empty="Nobody waits."
        items={byTenant.map(({ tenantId, waiting: value }) => ({ name: tenantId, value }))}
      />
      {tenantsOf < waiting && (
        <p class="note">
          Of the first {count(tenantsOf)} of {count(waiting)} that wait.
        </p>
      )}
    </section>
  )
}

const STATUSES = ['succeeded', 'failed', 'timed_out', 'canceled'] as const

function LastHour({ activity }: { activity: Overview['activity'] }) {
  const ended = activity.map(({ statuses }) => STATUSES.reduce((sum, name) => sum + (statuses[name] ?? 0), 0))
  const all = ended.reduce((sum, value) => sum + value, 0)
  const queuedMs = activity.reduce((sum, minute) => sum + minute.queuedMs, 0)
  const series = STATUSES.map(name => ({
    name: words(name),
    tone: `fill-${name}`,
    total: count(activity.reduce((sum, { statuses }) => sum + (statuses[name] ?? 0), 0)),
  }))
  const meanOf = (index: number) => {
    const tasks = ended[index] ?? 0
    return tasks > 0 ? (activity[index]?.queuedMs ?? 0) / tasks : 0
  }
  const mean = duration(all > 0 ? queuedMs / all : null)
  return (
    <section class="card wide" aria-labelledby="hour">
      <h2 id="hour">The last hour</h2>
      <div class="charts">
        <div>
          <h3>Tasks that ended, by minute</h3>
          <Minutes
            label={`Tasks that ended in the last hour: ${series.map(({ name, total }) => `${total} ${name}`).join(', ')}`}
            series={series}
            minutes={activity.map(({ at, statuses }) => ({
              at,
              values: STATUSES.map(name => statuses[name] ?? 0),
            }))}
            format={count}
          />
          <Legend series={series} />
        </div>
        <div>
          <h3>Mean time in the queue</h3>
          <Minutes
            label={`Mean time in the queue by minute; over the hour ${mean}`}
            series={[{ name: 'mean', tone: 'fill-queued' }]}
            minutes={activity.map(({ at }, index) => ({ at, values: [meanOf(index)] }))}
            format={duration}
          />
          <p class="note">
            Over the hour <b>{mean}</b>
          </p>
        </div>
        <div>
          <h3>Failures by code</h3>
          <Bars tone="bad" empty="Nothing failed." items={failuresOf(activity)} />
        </div>
      </div>
    </section>
  )
}

function failuresOf(activity: Overview['activity']): { name: string; value: number }[] {
  const sums = new Map<string, number>()
  for (const { failures } of activity)
    for (const [code, tasks] of Object.entries(failures)) sums.set(code, (sums.get(code) ?? 0) + tasks)
  return [...sums]
    .map(([name, value]) => ({ name, value }))
    .sort((one, other) => other.value - one.value)
    .slice(0, 8)
}

function Workers({ workers }: { workers: Overview['workers'] }) {
  const now = useNow()
  return (
    <section class="card flush" aria-labelledby="workers">
      <h2 id="workers">Workers</h2>
      {workers.length === 0 ? (
        <p class="nothing">No worker serves this queue. Start one with `agirunner up`.</p>
      ) : (
        <table class="list cards">
          <thead>
            <tr>
              {['Worker', 'State', 'Host', 'Running', 'Strategy', 'Engine', 'Heard of', 'Weak'].map(name => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {workers.map(worker => (
              <Worker key={worker.id} worker={worker} now={now} />
            ))}
          </tbody>
        </table>
      )}
    </section>
  )
}

function Worker({ worker, now }: { worker: WorkerView; now: number }) {
  return (
    <tr>
      <td class="first mono">{worker.id}</td>
      <td data-label="State">
        <Status name={worker.state} />
      </td>
      <td data-label="Host">{worker.host}</td>
      <td data-label="Running">
        {worker.running.length} / {worker.concurrency}
      </td>
      <td data-label="Strategy">{words(worker.strategy)}</td>
      <td data-label="Engine">{worker.engine}</td>
      <td data-label="Heard of" title={worker.at ?? undefined}>
        {worker.at === null ? '–' : `${age(worker.at, now)} ago`.replace('now ago', 'now')}
      </td>
      <td data-label="Weak">
        {worker.weak.length === 0
          ? 'none'
          : worker.weak.map(name => (
              <span key={name} class="tag warn">
                {name}
              </span>
            ))}
      </td>
    </tr>
  )
}

function RecentTasks() {
  const { list, complaint } = useTaskList('', '')
  return (
    <section class="card flush" aria-labelledby="recent">
      <h2 id="recent">
        Recent tasks <a href="tasks">All tasks</a>
      </h2>
      <Complaint text={complaint} />
      {list && <TaskTable tasks={list.tasks.slice(0, RECENT)} empty="No task yet." />}
    </section>
  )
}
