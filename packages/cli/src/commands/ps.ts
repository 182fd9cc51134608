import { type Command, JSON_OPTION } from '../command.js'
import { type RuntimeContainer, runtimeContainers } from '../containers.js'
import { openEngine } from '../docker.js'
import { EXIT } from '../errors.js'
import { showDuration, table } from '../output.js'

export const ps: Command = {
  usage: 'ps [--json]',
  summary: "lists the runtime's containers on this machine",
  options: { json: { ...JSON_OPTION, help: 'print one JSON object a line' } },
  takes: { min: 0, max: 0, name: 'nothing' },
  async run({ settings, io, flag }) {
    const { docker } = await openEngine(settings)
    const rows = await runtimeContainers(docker)
    if (flag('json')) for (const row of rows) await io.out.line(JSON.stringify(row))
    else for (const line of table([HEADING, ...rows.map(cellsOf)])) await io.out.line(line)
    return EXIT.ok
  },
}

const HEADING = ['TASK', 'ATTEMPT', 'KIND', 'STATE', 'AGE', 'IMAGE', 'WORKER', 'CONTAINER']

function cellsOf({ id, kind, taskId, attempt, state, image, worker, createdAt }: RuntimeContainer): string[] {
  const age = showDuration(Math.max(0, Date.now() - Date.parse(createdAt)))
  return [taskId ?? '-', String(attempt ?? '-'), kind, state, age, image, worker, id.slice(0, 12)]
}
