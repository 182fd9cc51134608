import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { stopwatch } from './contender.js'
import { describeMachine, renderMachine } from './machine.js'
import { withStage } from './stage.js'
import type { Found, Plan, Stage, Suite } from './suite.js'
import { SUITES, TOGETHER_SECONDS } from './suites.js'
import { renderTargets } from './target.js'

const HELP = `usage: pnpm bench [SUITE ...] [--runs N] [--tasks N] [--json FILE]
Without a suite all of them run, each for a short while: less than ten minutes together.
${SUITES.map(({ name, about }) => `  ${name.padEnd(12)} ${about}`).join('\n')}
  --runs N     rounds that count, however long they take; one more warms up
  --tasks N    over how many tasks memory has to stay flat (default 400)
  --json FILE  where every sample is written (default bench-results/<date>.json)
`

interface Call {
  readonly suites: readonly Suite[]
  readonly planOf: (suite: Suite) => Plan
  readonly json: string | undefined
}

/** @returns null when it is help that is asked for */
function parseCall(args: string[]): Call | null {
  const number = { type: 'string' } as const
  const options = { runs: number, tasks: number, json: number, help: { type: 'boolean' } } as const
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true })
  if (values.help) return null
  const unknown = positionals.find(name => !SUITES.some(suite => suite.name === name))
  if (unknown !== undefined)
    throw new Error(`${unknown} is no benchmark; there are ${SUITES.map(({ name }) => name).join(', ')}`)
  const brief = positionals.length === 0
  const runs = wholeNumber('--runs', values.runs)
  const tasks = wholeNumber('--tasks', values.tasks) ?? 400
  return {
    suites: SUITES.filter(({ name }) => brief || positionals.includes(name)),
    planOf: ({ alone, together }) => {
      const rounds = brief ? together : alone
      return { rounds: runs ? { most: runs, seconds: Number.POSITIVE_INFINITY } : rounds, brief, tasks }
    },
    json: values.json,
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
  const call = parseCall(process.argv.slice(2))
  if (call === null) return void process.stdout.write(HELP)
  const elapsed = stopwatch()
  await withStage(say, async stage => {
    const at = new Date().toISOString()
    const machine = await describeMachine(stage.docker)
    print(`Measured on ${renderMachine(machine)}.`)
    const { worker } = await stage.shared()
    const found = await runSuites(stage, call)
    const targets = Object.values(found).flatMap(one => one.targets ?? [])
    if (targets.length > 0) print(`## Targets\n\n${renderTargets(targets)}`)
    const seconds = Math.round(elapsed() / 1000)
    const file = call.json ?? `bench-results/${at.replace(/[:.]/g, '-')}.json`
    await mkdir(dirname(file), { recursive: true })
    const facts = { at, seconds, machine, strategy: worker.strategy }
    await writeFile(file, `${JSON.stringify({ ...facts, targets, suites: found }, null, 2)}\n`)
    print(`It took ${seconds} s; every sample is in ${file}.`)
  })
}

/** All of them together end in time: one that would not is left out, and says so. */
async function runSuites(stage: Stage, { suites, planOf }: Call): Promise<Record<string, Found>> {
  const found: Record<string, Found> = {}
  const elapsed = stopwatch()
  for (const suite of suites) {
    const plan = planOf(suite)
    const { name } = suite
    print(`## ${name}`)
    // With --runs it is the caller who says how long it takes.
    const { seconds } = plan.rounds
    if (plan.brief && Number.isFinite(seconds) && elapsed() / 1000 + seconds > TOGETHER_SECONDS) {
      print(`Not run: it would not end within the ten minutes. \`pnpm bench ${name}\` runs it alone.`)
      continue
    }
    const one = await runSuite(stage, suite, plan)
    if (one) found[name] = one
  }
  return found
}

/** @returns null when it failed, which does not take the others with it */
async function runSuite(stage: Stage, suite: Suite, plan: Plan): Promise<Found | null> {
  const elapsed = stopwatch()
  try {
    const found = await suite.run(stage, plan)
    print(found.text)
    return found
  } catch (error) {
    print(`Not measured: ${String(error)}`)
    process.exitCode = 5
    return null
  } finally {
    say(`${suite.name} took ${(elapsed() / 1000).toFixed(0)} s`)
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n\n`)
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

main().catch((error: unknown) => {
  process.stderr.write(`error: the benchmark did not end; ${String(error)}\n`)
  process.exitCode = 5
})
