import { useMemo, useState } from 'preact/hooks'
import { useNow, useStore, useTitle } from '../app/hooks.js'
import { fleet } from '../app/live.js'
import { arranged, type SortKey, type View } from '../lib/fleet.js'
import { age, count } from '../lib/format.js'
import { ContainerRow } from '../parts/container-row.js'
import { Loading } from '../parts/page-state.js'

const COLUMNS: readonly { readonly key: SortKey; readonly name: string; readonly right?: true }[] = [
  { key: 'kind', name: 'Kind' },
  { key: 'status', name: 'Status' },
  { key: 'task', name: 'Task' },
  { key: 'tenant', name: 'Tenant' },
  { key: 'labels', name: 'Labels' },
  { key: 'image', name: 'Image' },
  { key: 'cpu', name: 'CPU' },
  { key: 'memory', name: 'Memory' },
  { key: 'pids', name: 'Pids' },
  { key: 'network', name: 'Network' },
  { key: 'started', name: 'Started' },
  { key: 'output', name: 'Last output' },
  { key: 'worker', name: 'Worker' },
]
const KINDS = ['task', 'parked', 'helper', 'kept'] as const
const STATUSES = ['starting', 'running', 'stopping', 'ended'] as const
const START: View = { text: '', kind: '', status: '', sort: 'started', descending: true }

/** How many rows a big screen shows. */
const SCREEN = 40

export function ContainersPage() {
  const all = useStore(fleet)
  const now = useNow()
  const [view, setView] = useState(START)
  const rows = useMemo(() => (all === null ? [] : arranged(all, view)), [all, view])
  useTitle('Containers')
  const change = (part: Partial<View>) => setView({ ...view, ...part })
  const alive = all === null ? 0 : [...all.values()].filter(({ goneAt }) => goneAt === null).length
  return (
    <>
      <div class="head">
        <h1>
          Live containers <span class="muted">{all === null ? '' : count(alive)}</span>
        </h1>
        <Filters view={view} change={change} />
      </div>
      {all === null ? (
        <Loading what="the containers" />
      ) : (
        <section class="card flush scroll" aria-label="Containers" tabIndex={0}>
          <table class="list cards containers">
            <Head view={view} change={change} />
            <tbody>
              {rows.map(({ container, cpu, memory, goneAt }, index) => (
                <ContainerRow
                  key={container.id}
                  container={container}
                  cpu={cpu}
                  memory={memory}
                  gone={goneAt !== null}
                  early={index < SCREEN}
                  started={age(container.startedAt, now)}
                  said={age(container.lastOutput?.at ?? null, now)}
                />
              ))}
            </tbody>
          </table>
          {rows.length === 0 && (
            <p class="nothing">{all.size === 0 ? 'No container runs.' : 'No container fits the filter.'}</p>
          )}
        </section>
      )}
    </>
  )
}

interface ViewProps {
  readonly view: View
  readonly change: (part: Partial<View>) => void
}

function Filters({ view, change }: ViewProps) {
  return (
    <div class="filters" role="search">
      <input
        type="search"
        aria-label="Filter containers"
        placeholder="Filter by task, label, image, worker…"
        value={view.text}
        onInput={event => change({ text: event.currentTarget.value })}
      />
      <Choice name="Kind" value={view.kind} values={KINDS} pick={kind => change({ kind })} />
      <Choice name="Status" value={view.status} values={STATUSES} pick={status => change({ status })} />
      <label class="narrow">
        Sort by{' '}
        <select value={view.sort} onInput={event => change({ sort: event.currentTarget.value as SortKey })}>
          {COLUMNS.map(({ key, name }) => (
            <option key={key} value={key}>
              {name}
            </option>
          ))}
        </select>
      </label>
    </div>
  )
}

interface ChoiceProps<T extends string> {
  readonly name: string
  readonly value: T | ''
  readonly values: readonly T[]
  readonly pick: (value: T | '') => void
}

function Choice<T extends string>({ name, value, values, pick }: ChoiceProps<T>) {
  return (
    <select aria-label={name} value={value} onInput={event => pick(event.currentTarget.value as T | '')}>
      <option value="">Any {name.toLowerCase()}</option>
      {values.map(one => (
        <option key={one} value={one}>
          {one}
        </option>
      ))}
    </select>
  )
}

function Head({ view, change }: ViewProps) {
  return (
    <thead>
      <tr>
        {COLUMNS.map(({ key, name }) => {
          const isSorted = view.sort === key
          const order = view.descending ? 'descending' : 'ascending'
          return (
            <th key={key} scope="col" aria-sort={isSorted ? order : undefined}>
              <button
                type="button"
                onClick={() => change({ sort: key, descending: isSorted ? !view.descending : false })}
              >
                {name}
                <i aria-hidden="true">{isSorted ? (view.descending ? '↓' : '↑') : ''}</i>
              </button>
            </th>
          )
        })}
      </tr>
    </thead>
  )
}
