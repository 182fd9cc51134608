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
  for (const suite of suites) {
    const outcome = await runPart(suite, args, TOGETHER_SECONDS - elapsed() / 1000)
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

async function runPart({ name, together }: Suite, args: readonly string[], left: number): Promise<Outcome> {
  const { seconds } = together ?? { seconds: 0 }
  const alone = `\`pnpm bench ${name}\` runs it alone`
  if (left < seconds) return { reason: `it would not end within the ten minutes; ${alone}` }
  const folder = await mkdtemp(join(tmpdir(), 'bench-'))
  const file = join(folder, 'part.json')
  try {
    // Twice its share is for a machine that others use too; past that it is at the cost of the suites to come.
    const most = Math.min(2 * seconds + 20, left)
    const ended = await runProcess([name, '--brief', '--json', file, ...args], most * 1000)
    if (ended === 'cut') return { reason: `cut after ${Math.round(most)} s, its share of the time; ${alone}` }
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
