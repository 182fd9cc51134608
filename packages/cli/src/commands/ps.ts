import { setTimeout as sleep } from 'node:timers/promises'
import type Docker from 'dockerode'
import { type Paint, paintFor } from '../colours.js'
import { type Call, type Command, JSON_OPTION } from '../command.js'
import { type RuntimeContainer, runtimeContainers } from '../containers.js'
import { openEngine } from '../docker.js'
import { EXIT } from '../errors.js'
import { LiveScreen, untilStopped } from '../live-screen.js'
import { showDuration, table } from '../output.js'

/** How often it is looked for changes, in milliseconds. */
const WATCH_MS = 1000

export const ps: Command = {
  usage: 'ps [--watch] [--json]',
  summary: "lists the runtime's containers on this machine",
  details:
    'With --watch the list is redrawn in place on a terminal, else printed anew whenever a container came, went or changed;\n' +
    'with --json as well, each time as one JSON array a line. Ctrl-C ends it.',
  options: {
    watch: { type: 'boolean', help: 'go on until Ctrl-C' },
    json: { ...JSON_OPTION, help: 'print one JSON object a line' },
  },
  takes: { min: 0, max: 0, name: 'nothing' },
  async run(call) {
    const { settings, io, flag } = call
    const { docker } = await openEngine(settings)
    if (flag('watch')) return await watch(docker, call)
    const rows = await runtimeContainers(docker)
    if (flag('json')) for (const row of rows) await io.out.line(JSON.stringify(row))
    else for (const line of linesOf(rows)) await io.out.line(line)
    return EXIT.ok
  },
}

async function watch(docker: Docker, { io, flag }: Call): Promise<number> {
  const screen = new LiveScreen(io.out)
  let told: string | null = null
  try {
    await untilStopped(async signal => {
      while (!io.out.closed) {
        const rows = await runtimeContainers(docker)
        const now = JSON.stringify(rows)
        if (!flag('json')) {
          await screen.show(linesOf(rows, paintFor(io.out), screen), now)
        } else if (now !== told) {
          await io.out.line(now)
        }
        told = now
        await sleep(WATCH_MS, undefined, { signal })
      }
    })
  } finally {
    screen.end()
  }
  return EXIT.ok
}

const HEADING = ['TASK', 'ATTEMPT', 'KIND', 'STATE', 'AGE', 'IMAGE', 'WORKER', 'CONTAINER']
const STATE = HEADING.indexOf('STATE')

function linesOf(
  containers: readonly RuntimeContainer[],
  paint: Paint = word => word,
  room: { readonly rows: number; readonly columns: number } = UNLIMITED,
): string[] {
  const fits = containers.length < room.rows
  const shown = fits ? containers : containers.slice(0, Math.max(0, room.rows - 2))
  const rows = [HEADING, ...shown.map(cellsOf)]
  const lines = table(rows, { columns: room.columns, paint: { column: STATE, paint } })
  return fits ? lines : [...lines, `… and ${containers.length - shown.length} more`]
}

const UNLIMITED = { rows: Number.POSITIVE_INFINITY, columns: Number.POSITIVE_INFINITY }

function cellsOf({ id, kind, taskId, attempt, state, image, worker, createdAt }: RuntimeContainer): string[] {
  const age = showDuration(Math.max(0, Date.now() - Date.parse(createdAt)))
  return [taskId ?? '-', String(attempt ?? '-'), kind, state, age, image, worker, id.slice(0, 12)]
}
