import { readFileSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { TaskFailure } from '@agirunner/contracts'
import type { GitLimits, Workspaces } from '../workspace/index.js'
import { createWorkspaces } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { accept, volumeEngine } from './workspace-fixture.js'

/** What the program is asked: to prepare a task, to give the last workspace back, or to end its git children. */
export type Order =
  | {
      readonly type: 'prepare'
      readonly source: Record<string, unknown>
      readonly limits: Partial<GitLimits>
      readonly allowPrivate: boolean
    }
  | { readonly type: 'release' }
  | { readonly type: 'close' }

/** What became of it. */
export interface Report {
  readonly failure: { readonly code: string; readonly phase: string | null; readonly message: string } | null
  /** The commit and the folder that hold the workspace's repository, when there is one. */
  readonly made: { readonly commit: string | null; readonly ref: string | null; readonly repo: string } | null
  /** How much more memory the process held at any moment than before, in bytes. */
  readonly grownBytes: number
  readonly loopDelayMs: number
  readonly tookMs: number
  /** The git children before and after. */
  readonly children: { readonly before: readonly number[]; readonly after: readonly number[] }
}

const [dataDir = ''] = process.argv.slice(2)
const engine = volumeEngine()
const rooms = new Map<string, Workspaces>()
const plans: WorkspacePlan[] = []

function roomFor(limits: Partial<GitLimits>, allowPrivate: boolean): Workspaces {
  const key = JSON.stringify([limits, allowPrivate])
  const owner = { worker: `w-${process.pid}-0-test`, host: 'test', stack: 'test' }
  const room =
    rooms.get(key) ??
    createWorkspaces({ dataDir, engine, owner, strategy: 'copy', allowPrivate, limits })
  rooms.set(key, room)
  return room
}

/** Processes whose parent is this one. */
function childPids(): number[] {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
}

/** The most memory that this process ever held since `forgetPeak`, as the kernel saw it. */
function peakBytes(): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return Number(line?.[1]) * 1024
}

function forgetPeak(): void {
  writeFileSync('/proc/self/clear_refs', '5')
}

async function prepare({ source, limits, allowPrivate }: Extract<Order, { type: 'prepare' }>): Promise<Report> {
  const room = roomFor(limits, allowPrivate)
  const before = childPids()
  const delay = monitorEventLoopDelay({ resolution: 10 })
  forgetPeak()
  const rss = peakBytes()
  const start = performance.now()
  delay.enable()
  const outcome = await attempt(room, source)
  delay.disable()
  return {
    ...outcome,
    grownBytes: peakBytes() - rss,
    loopDelayMs: delay.percentile(99) / 1e6,
    tookMs: performance.now() - start,
    children: { before, after: childPids() },
  }
}

async function attempt(
  room: Workspaces,
  source: Record<string, unknown>,
): Promise<Pick<Report, 'failure' | 'made'>> {
  try {
    const plan = await room.prepare(accept(source), {
      signal: new AbortController().signal,
      progress: () => undefined,
    })
    plans.push(plan)
    const repo = plan.layers.strategy === 'copy' ? plan.layers.copy : ''
    return { failure: null, made: { commit: plan.base.commit, ref: plan.base.ref, repo } }
  } catch (error) {
    if (!(error instanceof TaskFailure)) throw error
    const { code, phase, message } = error
    return { failure: { code, phase, message }, made: null }
  }
}

async function obey(order: Order): Promise<Report | readonly number[]> {
  if (order.type === 'prepare') return await prepare(order)
  for (const plan of plans.splice(0)) await plan.release()
  if (order.type === 'close') for (const room of rooms.values()) await room.close()
  return childPids()
}

process.on('message', (order: Order) => {
  obey(order).then(
    answer => process.send?.({ answer }),
    (error: Error) => process.send?.({ error: error.stack }),
  )
})
process.on('disconnect', () => process.exit(0))
