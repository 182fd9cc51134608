import type Docker from 'dockerode'

/** A container of the runtime as the engine lists it. */
export interface RuntimeContainer {
  readonly id: string
  readonly name: string
  readonly kind: string
  readonly taskId: string | null
  readonly attempt: number | null
  readonly state: string
  readonly image: string
  readonly worker: string
  readonly createdAt: string
  readonly keptUntil: string | null
}

/** A claim gives a container its task's name, keeping it adds until when; one without such a name has no task yet. */
const OF_A_TASK = /^agirunner-([A-Za-z][A-Za-z0-9_-]*?)-(\d+)(?:-kept-(\d+))?$/

/** Everything on an engine that is the runtime's, in any state. */
export async function runtimeContainers(docker: Docker): Promise<RuntimeContainer[]> {
  const listed = await docker.listContainers({
    all: true,
    filters: { label: ['agirunner.managed=true'] },
  })
  return listed.map(describe)
}

/** The container of a task's latest attempt, kept or not; null when there is none. */
export async function containerOf(docker: Docker, taskId: string): Promise<RuntimeContainer | null> {
  const all = await runtimeContainers(docker)
  const own = all.filter(container => container.taskId === taskId)
  return own.toSorted((a, b) => (a.attempt ?? 0) - (b.attempt ?? 0)).at(-1) ?? null
}

function describe(container: Docker.ContainerInfo): RuntimeContainer {
  const name = container.Names[0]?.replace(/^\//, '') ?? ''
  const label = (key: string) => container.Labels[`agirunner.${key}`] ?? ''
  const [, taskId = null, attempt, kept] = label('kind') === 'helper' ? [] : (OF_A_TASK.exec(name) ?? [])
  return {
    id: container.Id,
    name,
    kind: kindOf(label('kind'), { isKept: kept !== undefined, isTasks: taskId !== null }),
    taskId,
    attempt: attempt === undefined ? null : Number(attempt),
    state: container.State,
    image: container.Image,
    worker: label('worker'),
    createdAt: timeOf(container.Created),
    keptUntil: kept === undefined ? null : timeOf(Number(kept)),
  }
}

/** One that waited keeps its label when a task comes: the name tells. */
function kindOf(label: string, { isKept, isTasks }: { isKept: boolean; isTasks: boolean }): string {
  if (isKept) return 'kept'
  return label === 'parked' && isTasks ? 'task' : label
}

function timeOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString()
}
