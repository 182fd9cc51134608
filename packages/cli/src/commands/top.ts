import { formatSize, type Gauge, type LiveContainer } from '@agirunner/contracts'
import { harmless, type Paint, paintFor } from '../colours.js'
import type { Call, Command } from '../command.js'
import { EXIT } from '../errors.js'
import { LiveScreen, untilStopped } from '../live-screen.js'
import { table } from '../output.js'

export const top: Command = {
  usage: 'top [--once] [--json]',
  summary: "shows what the workers' containers use, the busiest first",
  details:
    'Workers tell of their containers while somebody looks, about once a second; those of other machines are there too. CPU\n' +
    'is in cores. On a terminal the table is redrawn in place, else it is printed anew. Ctrl-C ends it.',
  options: {
    once: { type: 'boolean', help: 'print what is there now, and end' },
    json: {
      type: 'boolean',
      help: 'print one JSON array a line, each time that something changed; with --once one container a line',
    },
  },
  takes: { min: 0, max: 0, name: 'nothing' },
  async run(call) {
    const { io, flag, producer } = call
    const screen = new LiveScreen(io.out)
    try {
      await untilStopped(async signal => {
        for await (const containers of producer().watchContainers({ signal })) {
          await show(busiestFirst(containers), screen, call)
          if (flag('once') || io.out.closed) break
        }
      })
    } finally {
      screen.end()
    }
    return EXIT.ok
  },
}

async function show(
  containers: readonly LiveContainer[],
  screen: LiveScreen,
  { io, flag }: Call,
): Promise<void> {
  if (!flag('json')) return await screen.show(linesOf(containers, screen, paintFor(io.out)))
  if (!flag('once')) return await io.out.line(JSON.stringify(containers))
  for (const container of containers) await io.out.line(JSON.stringify(container))
}

function busiestFirst(containers: readonly LiveContainer[]): LiveContainer[] {
  const used = ({ cpu }: LiveContainer) => cpu.used ?? -1
  return containers.toSorted((a, b) => used(b) - used(a) || (a.name < b.name ? -1 : 1))
}

const HEADING = ['NAME', 'KIND', 'STATUS', 'CPU', 'MEMORY', 'PIDS', 'LAST OUTPUT']
const STATUS = HEADING.indexOf('STATUS')

/** The table, cut to what there is room for. */
export function linesOf(
  containers: readonly LiveContainer[],
  room: { readonly rows: number; readonly columns: number },
  paint: Paint,
): string[] {
  const fits = containers.length < room.rows
  const shown = fits ? containers : containers.slice(0, Math.max(0, room.rows - 2))
  const rows = [HEADING, ...shown.map(cellsOf)]
  const lines = table(rows, { columns: room.columns, paint: { column: STATUS, paint } })
  return fits ? lines : [...lines, `… and ${containers.length - shown.length} more`]
}

function cellsOf({ name, kind, status, cpu, memory, pids, lastOutput }: LiveContainer): string[] {
  const gauges = [
    showGauge(cpu, used => used.toFixed(2), String),
    showGauge(memory, formatSize),
    showGauge(pids, String),
  ]
  return [harmless(name), kind, status, ...gauges, harmless(lastOutput?.text ?? '')]
}

function showGauge(
  { used, limit }: Gauge,
  show: (used: number) => string,
  showLimit: (limit: number) => string = show,
): string {
  return `${used === null ? '-' : show(used)} / ${limit === null ? 'unlimited' : showLimit(limit)}`
}
