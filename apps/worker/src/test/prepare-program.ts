import { readFileSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { TaskFailure } from '@agirunner/contracts'
import type { GitLimits, Workspaces } from '../workspace/index.js'
import { createWorkspaces } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { accept, NOTHING_EARLIER, volumeEngine } from './workspace-fixture.js'

/** What the program is asked: to prepare a task, to be a burden itself, to give all workspaces back, or to close too. */
export type Order =
  | {
      readonly type: 'prepare'
      readonly source: Record<string, unknown>
      readonly limits: Partial<GitLimits>
      readonly allowPrivate: boolean
    }
  | { readonly type: 'burden' }
  | { readonly type: 'release' }
  | { readonly type: 'close' }

/** What became of it. */
export interface Report {
  readonly failure: { readonly code: string; readonly phase: string | null; readonly message: string } | null
  /** The commit and the folder that hold the workspace's repository, when there is one. */
  readonly made: { readonly commit: string | null; readonly ref: string | null; readonly repo: string } | null
  /** How much more memory the process held at any moment than before, in bytes. */
  readonly grownBytes: number
  /** For how long its event loop stood still: the 99th percentile, and no more than it was at work itself. */
  readonly blockedMs: number
  readonly tookMs: number
  /** The git children before and after. */
  readonly children: { readonly before: readonly number[]; readonly after: readonly number[] }
}

type Prepare = Extract<Order, { type: 'prepare' }>

const [dataDir = ''] = process.argv.slice(2)
const engine = volumeEngine()
const plans: WorkspacePlan[] = []
/** The one with the limits that were asked for first, as a worker has it; others are for one task each. */
let usual: { readonly key: string; readonly room: Workspaces } | null = null

function open({ limits, allowPrivate }: Prepare): Workspaces {
  const owner = { worker: `w-${process.pid}-0-test`, host: 'test', stack: 'test' }
  return createWorkspaces({
    dataDir,
    engine,
    owner,
    strategy: 'copy',
    disks: null,
    allowPrivate,
    limits,
    cache: { maxBytes: 2 ** 40, minFreeBytes: 0 },
    hostRoots: [],
    earlier: NOTHING_EARLIER,
  })
}

async function prepare(order: Prepare): Promise<Report> {
  const key = JSON.stringify([order.limits, order.allowPrivate])
  usual ??= { key, room: open(order) }
  const { room: kept } = usual
  if (key === usual.key) return await measured(() => prepareIn(kept, order.source))
  const room = open(order)
  try {
    return await measured(() => prepareIn(room, order.source))
  } finally {
    await room.close()
  }
}

/** Processes whose parent is this one. */
function childPids(): number[] {
  return readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8')
    .split(' ')
    .filter(Boolean)
    .map(Number)
}

/** The most memory that this process ever held since `forgetPeak`, as the kernel saw it. */
function peakBytes(): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return Number(line?.[1]) * 1024
}

/** How long the event loop's own thread has been computing. */
function busyMs(): number {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
}

function forgetPeak(): void {
  writeFileSync('/proc/self/clear_refs', '5')
}

async function measured(work: () => Promise<Pick<Report, 'failure' | 'made'>>): Promise<Report> {
  const before = childPids()
  const delay = monitorEventLoopDelay({ resolution: 10 })
  forgetPeak()
  const [rss, busy, start] = [peakBytes(), busyMs(), performance.now()]
  delay.enable()
  const outcome = await work()
  delay.disable()
  return {
    ...outcome,
    grownBytes: peakBytes() - rss,
    // On a busy machine the loop waits for a processor too, which is nobody's doing.
    blockedMs: Math.min(delay.percentile(99) / 1e6, busyMs() - busy),
    tookMs: performance.now() - start,
    children: { before, after: childPids() },
  }
}

/** What a hostile server could do to a worker that read its answers itself. */
async function burden(): Promise<Pick<Report, 'failure' | 'made'>> {
  await sleep(50)
  const held = Buffer.alloc(128 * 2 ** 20, 1)
  for (const end = busyMs() + 300; busyMs() < end; ) held.fill(2, 0, 4096)
  await sleep(50)
  return { failure: null, made: null }
}

async function prepareIn(
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
  if (order.type === 'burden') return await measured(burden)
  if (order.type === 'prepare') return await prepare(order)
  for (const plan of plans.splice(0)) await plan.release()
  if (order.type === 'close') await usual?.room.close()
  return childPids()
}

process.on('message', (order: Order) => {
  obey(order).then(
    answer => process.send?.({ answer }),
    (error: Error) => process.send?.({ error: error.stack }),
  )
})
process.on('disconnect', () => process.exit(0))
