import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stopwatch } from './contender.js'
import type { Machine } from './machine.js'
import type { Report } from './report.js'
import type { Found, Suite } from './suite.js'

/** All of them together end before ten minutes are over, with the time that a suite gets to put its things away. */
const TOGETHER_SECONDS = 570
/** How long a suite that is cut gets for that. */
const GRACE_MS = 15_000

type Outcome = { readonly report: Report } | { readonly reason: string }

export interface TogetherOptions {
  readonly suites: readonly Suite[]
  /** Arguments for every suite's process. */
  readonly args: readonly string[]
  /** Hears of each suite as soon as it has ended. */
  readonly onSuite: (name: string, outcome: Outcome) => void
}

/**
 * Runs suites one after another, each in a process of its own: that can be ended when it overruns, whatever it is busy
 * with, and takes neither the memory nor the worker of another with it.
 */
export async function runTogether({ suites, args, onSuite }: TogetherOptions): Promise<Partial<Report>> {
  const elapsed = stopwatch()
  const found: Record<string, Found> = {}
  const notMeasured: Record<string, string> = {}
  let facts: { machine: Machine; strategy: string } | undefined
  for (const [index, suite] of suites.entries()) {
    const later = suites.slice(index + 1).reduce((sum, { together }) => sum + (together?.seconds ?? 0), 0)
    const left = TOGETHER_SECONDS - elapsed() / 1000
    const outcome = await runPart(suite, args, { left, later })
    onSuite(suite.name, outcome)
    if ('reason' in outcome) {
      notMeasured[suite.name] = outcome.reason
      continue
    }
    const { machine, strategy, suites: part } = outcome.report
    facts ??= { machine, strategy }
    Object.assign(found, part)
    Object.assign(notMeasured, outcome.report.notMeasured)
  }
  return { ...facts, suites: found, notMeasured }
}

/** In seconds: what is left of the time of all suites, and what of that the suites to come have a right to. */
interface Time {
  readonly left: number
  readonly later: number
}

/**
 * How long a suite with a share of `seconds` may take. On a busy machine it needs more, because it takes one round at
 * least, however long that is; it gets that of what the others leave.
 */
export function mostSeconds({ seconds, left, later }: Time & { readonly seconds: number }): number {
  return Math.max(seconds, Math.min(2 * seconds + 20, left - later))
}

async function runPart(
  { name, together }: Suite,
  args: readonly string[],
  { left, later }: Time,
): Promise<Outcome> {
  const { seconds } = together ?? { seconds: 0 }
  const alone = `\`pnpm bench ${name}\` runs it alone`
  if (left < seconds) return { reason: `it would not end within the ten minutes; ${alone}` }
  const folder = await mkdtemp(join(tmpdir(), 'bench-'))
  const file = join(folder, 'part.json')
  try {
    // What the suite before wrote must not be on its way to the disk still: the engine waits for that with each container.
    await once(spawn('sync'), 'close')
    const most = mostSeconds({ seconds, left, later })
    const ended = await runProcess([name, '--brief', '--json', file, ...args], most * 1000)
    if (ended === 'cut')
      return { reason: `cut after ${Math.round(most)} s, the most that the others leave it; ${alone}` }
    return { report: JSON.parse(await readFile(file, 'utf8')) as Report }
  } catch (error) {
    return { reason: `its process ended without figures: ${String(error)}` }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function runProcess(args: readonly string[], withinMs: number): Promise<'ended' | 'cut'> {
  const [, program = ''] = process.argv
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
  const passOn = () => void child.kill('SIGTERM')
  process.once('SIGTERM', passOn)
  let cut = false
  const timers = [
    setTimeout(() => {
      cut = true
      child.kill('SIGTERM')
    }, withinMs),
    setTimeout(() => child.kill('SIGKILL'), withinMs + GRACE_MS),
  ]
  try {
    await once(child, 'close')
  } finally {
    for (const timer of timers) clearTimeout(timer)
    process.off('SIGTERM', passOn)
  }
  return cut ? 'cut' : 'ended'
}
