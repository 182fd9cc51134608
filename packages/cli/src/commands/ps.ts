import type Docker from 'dockerode'
import { type Command, JSON_OPTION } from '../command.js'
import { openEngine } from '../docker.js'
import { EXIT } from '../errors.js'
import { showDuration, table } from '../output.js'

/** A container of the runtime, as `ps` shows it. */
interface Row {
  readonly id: string
  readonly name: string
  readonly kind: string
  readonly taskId: string | null
  readonly attempt: number | null
  readonly state: string
  readonly image: string
  readonly worker: string
  readonly createdAt: string
}

export const ps: Command = {
  usage: 'ps [--json]',
  summary: "lists the runtime's containers on this machine",
  options: { json: { ...JSON_OPTION, help: 'print one JSON object a line' } },
  takes: { min: 0, max: 0, name: 'nothing' },
  async run({ settings, io, flag }) {
    const { docker } = await openEngine(settings)
    const containers = await docker.listContainers({
      all: true,
      filters: { label: ['agirunner.managed=true'] },
    })
    const rows = containers.map(rowOf)
    if (flag('json')) for (const row of rows) await io.out.line(JSON.stringify(row))
    else for (const line of table([HEADING, ...rows.map(cellsOf)])) await io.out.line(line)
    return EXIT.ok
  },
}

const HEADING = ['TASK', 'ATTEMPT', 'KIND', 'STATE', 'AGE', 'IMAGE', 'WORKER', 'CONTAINER']

function rowOf(container: Docker.ContainerInfo): Row {
  const name = container.Names[0]?.replace(/^\//, '') ?? ''
  const label = (key: string) => container.Labels[`agirunner.${key}`] ?? ''
  // A claim gives a container its task's name; one without such a name has no task yet.
  const claimed = /^agirunner-([A-Za-z][A-Za-z0-9_-]*)-(\d+)$/.exec(name)
  const isTask = label('kind') !== 'helper' && claimed !== null
  return {
    id: container.Id,
    name,
    kind: label('kind'),
    taskId: isTask ? (claimed[1] ?? null) : null,
    attempt: isTask ? Number(claimed[2]) : null,
    state: container.State,
    image: container.Image,
    worker: label('worker'),
    createdAt: new Date(container.Created * 1000).toISOString(),
  }
}

function cellsOf({ id, kind, taskId, attempt, state, image, worker, createdAt }: Row): string[] {
  const age = showDuration(Math.max(0, Date.now() - Date.parse(createdAt)))
  return [taskId ?? '-', String(attempt ?? '-'), kind, state, age, image, worker, id.slice(0, 12)]
}
