import { parseArgs } from 'node:util'
import { stopwatch } from './contender.js'
import { describeMachine, renderMachine } from './machine.js'
import { type Report, targetsOf, writeReport } from './report.js'
import { withStage } from './stage.js'
import type { Found, Plan, Stage, Suite } from './suite.js'
import { SUITES } from './suites.js'
import { renderTargets } from './target.js'
import { runTogether } from './together.js'

const HELP = `usage: pnpm bench [SUITE ...] [--brief] [--runs N] [--tasks N] [--json FILE]
Without a suite all of them run but flat, each for a short while: less than ten minutes together.
${SUITES.map(({ name, about }) => `  ${name.padEnd(12)} ${about}`).join('\n')}
  --brief      as short as when all of them run
  --runs N     rounds that count, however long they take; one more warms up
  --tasks N    over how many tasks memory has to stay flat (default 2000)
  --json FILE  where every sample is written (default bench-results/<date>.json)
`

interface Call {
  /** None for all of them, each in a process of its own. */
  readonly suites: readonly Suite[]
  readonly planOf: (suite: Suite) => Plan
  readonly json: string
  /** What the processes of suites are told too. */
  readonly passedOn: readonly string[]
}

/** @returns null when it is help that is asked for */
function parseCall(args: string[], at: string): Call | null {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean', default: false } as const
  const options = { runs: text, tasks: text, json: text, brief: flag, help: flag } as const
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  if (values.help) return null
  const unknown = positionals.find(name => !SUITES.some(suite => suite.name === name))
  if (unknown !== undefined)
    throw new Error(`${unknown} is no benchmark; there are ${SUITES.map(({ name }) => name).join(', ')}`)
  const { brief } = values
  const runs = wholeNumber('--runs', values.runs)
  const tasks = wholeNumber('--tasks', values.tasks) ?? 2000
  return {
    suites: SUITES.filter(({ name }) => positionals.includes(name)),
    planOf: ({ alone, together }) => {
      // The rest of its share goes to the start and the end of what it measures.
      const rounds = brief && together ? { ...together, seconds: together.seconds * 0.6 } : alone
      return { rounds: runs ? { most: runs, seconds: Number.POSITIVE_INFINITY } : rounds, brief, tasks }
    },
    json: values.json ?? `bench-results/${at.replace(/[:.]/g, '-')}.json`,
    passedOn: runs ? ['--runs', String(runs)] : [],
  }
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`${name} ${text}; it must be a whole number above 0`)
  return value
}

async function main(): Promise<void> {
  const at = new Date().toISOString()
  const call = parseCall(process.argv.slice(2), at)
  if (call === null) return void process.stdout.write(HELP)
  const elapsed = stopwatch()
  const part = call.suites.length > 0 ? await runHere(call) : await runAll(call)
  const targets = targetsOf(part.suites ?? {})
  if (targets.length > 0) print(`## Targets\n\n${renderTargets(targets)}`)
  const seconds = Math.round(elapsed() / 1000)
  await writeReport(call.json, { at, seconds, ...part, targets })
  print(`It took ${seconds} s; every sample is in ${call.json}.`)
  if (Object.keys(part.notMeasured ?? {}).length > 0) process.exitCode = 5
}

/** All of them, each in a process of its own. */
async function runAll({ passedOn }: Call): Promise<Partial<Report>> {
  const suites = SUITES.filter(({ together }) => together !== null)
  let told = false
  return await runTogether({
    suites,
    args: passedOn,
    onSuite: (name, outcome) => {
      if ('report' in outcome && !told) print(`Measured on ${renderMachine(outcome.report.machine)}.`)
      told ||= 'report' in outcome
      if ('reason' in outcome) return printSuite(name, outcome.reason)
      printSuite(name, outcome.report.suites[name] ?? outcome.report.notMeasured[name])
    },
  })
}

/** Some of them, in this process. */
async function runHere({ suites, planOf }: Call): Promise<Partial<Report>> {
  let report: Partial<Report> = {}
  await withStage(say, async stage => {
    const machine = await describeMachine(stage.docker)
    print(`Measured on ${renderMachine(machine)}.`)
    const { worker } = await stage.shared()
    const found: Record<string, Found> = {}
    const notMeasured: Record<string, string> = {}
    for (const suite of suites) {
      const one = await runSuite(stage, suite, planOf(suite))
      printSuite(suite.name, one)
      if (typeof one === 'string') notMeasured[suite.name] = one
      else found[suite.name] = one
    }
    report = { machine, strategy: worker.strategy, suites: found, notMeasured }
  })
  return report
}

/** @returns why it failed, which does not take the others with it */
async function runSuite(stage: Stage, suite: Suite, plan: Plan): Promise<Found | string> {
  const elapsed = stopwatch()
  try {
    return await suite.run(stage, plan)
  } catch (error) {
    return String(error)
  } finally {
    say(`${suite.name} took ${(elapsed() / 1000).toFixed(0)} s`)
  }
}

function printSuite(name: string, found: Found | string | undefined): void {
  print(`## ${name}\n\n${typeof found === 'object' ? found.text : `Not measured: ${found}.`}`)
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`)
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

main()
  .catch((error: unknown) => {
    process.stderr.write(`error: the benchmark did not end; ${String(error)}\n`)
    process.exitCode = 5
  })
  // One that was ended by a signal would go on with what it was about.
  .finally(() => process.exit())
