import type { LiveContainer } from '@agirunner/contracts'

/** A container and what the page remembers of it. */
export interface FleetRow {
  readonly container: LiveContainer
  /** The last samples, the oldest first: cores and bytes. */
  readonly cpu: readonly number[]
  readonly memory: readonly number[]
  /** When it was missing first, in Unix milliseconds; null while it is there. */
  readonly goneAt: number | null
}

export type Fleet = ReadonlyMap<string, FleetRow>

/** How many samples are kept, and how long a row that vanished stays, in milliseconds. */
export const SAMPLES = 60
export const FADE_MS = 10_000

/**
 * The rows after a look at all containers. A row whose container is the same as before keeps its identity but for the samples.
 *
 * @param now Unix milliseconds
 */
export function fleetAfter(before: Fleet, containers: readonly LiveContainer[], now: number): Fleet {
  const after = new Map<string, FleetRow>()
  for (const container of containers) {
    const old = before.get(container.id)
    after.set(container.id, {
      container,
      cpu: added(old?.cpu, container.cpu.used),
      memory: added(old?.memory, container.memory.used),
      goneAt: null,
    })
  }
  for (const [id, row] of before) {
    if (after.has(id)) continue
    const goneAt = row.goneAt ?? now
    if (now - goneAt < FADE_MS) after.set(id, row.goneAt === goneAt ? row : { ...row, goneAt })
  }
  return after
}

/** Without the rows whose time is over; the same fleet when there is none. */
export function withoutGone(fleet: Fleet, now: number): Fleet {
  const kept = [...fleet].filter(([, { goneAt }]) => goneAt === null || now - goneAt < FADE_MS)
  return kept.length === fleet.size ? fleet : new Map(kept)
}

function added(samples: readonly number[] = [], sample: number | null): readonly number[] {
  return sample === null ? samples : [...samples.slice(1 - SAMPLES), sample]
}

export type SortKey =
  | 'kind'
  | 'status'
  | 'task'
  | 'tenant'
  | 'labels'
  | 'image'
  | 'cpu'
  | 'memory'
  | 'pids'
  | 'network'
  | 'started'
  | 'output'
  | 'worker'

export interface View {
  readonly text: string
  readonly kind: LiveContainer['kind'] | ''
  readonly status: LiveContainer['status'] | ''
  readonly sort: SortKey
  readonly descending: boolean
}

const KEYS: Readonly<Record<SortKey, (container: LiveContainer) => string | number | null>> = {
  kind: ({ kind }) => kind,
  status: ({ status }) => status,
  task: ({ taskId }) => taskId,
  tenant: ({ tenantId }) => tenantId,
  labels: ({ labels }) => labelText(labels) || null,
  image: ({ image }) => image,
  cpu: ({ cpu }) => cpu.used,
  memory: ({ memory }) => memory.used,
  pids: ({ pids }) => pids.used,
  network: ({ network }) => network,
  started: ({ startedAt }) => startedAt,
  output: ({ lastOutput }) => lastOutput?.at ?? null,
  worker: ({ worker }) => worker,
}

/** The rows to show in their order. What has no value comes last either way; equals keep an order that does not jump. */
export function arranged(fleet: Fleet, view: View): FleetRow[] {
  const words = view.text.toLowerCase().split(/\s+/).filter(Boolean)
  const rows = [...fleet.values()].filter(
    ({ container }) =>
      (view.kind === '' || container.kind === view.kind) &&
      (view.status === '' || container.status === view.status) &&
      words.every(word => textOf(container).includes(word)),
  )
  const key = KEYS[view.sort]
  const sign = view.descending ? -1 : 1
  return rows.sort((one, other) => {
    const [a, b] = [key(one.container), key(other.container)]
    if (a !== b) {
      if (a === null) return 1
      if (b === null) return -1
      return a < b ? -sign : sign
    }
    return one.container.id < other.container.id ? -1 : 1
  })
}

function textOf(container: LiveContainer): string {
  const { taskId, tenantId, labels, image, distro, name, worker, network, kind, status, lastOutput } =
    container
  return [
    taskId,
    tenantId,
    labelText(labels),
    image,
    distro,
    name,
    worker,
    network,
    kind,
    status,
    lastOutput?.text,
  ]
    .join(' ')
    .toLowerCase()
}

/** The labels that say what a task is first, then the others by name. */
const FIRST = ['role', 'playbook', 'workflow', 'stage']

export function labelsInOrder(labels: Readonly<Record<string, string>>): [string, string][] {
  const rank = (name: string) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length)
  return Object.entries(labels).sort(([one], [other]) => rank(one) - rank(other) || (one < other ? -1 : 1))
}

export const labelText = (labels: Readonly<Record<string, string>>): string =>
  labelsInOrder(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')
