import { parseArgs } from 'node:util'
import { nearest } from '@agirunner/contracts'
import type { Command, Option } from './command.js'
import { CliError } from './errors.js'

/** Options that every command takes. */
export const COMMON: Readonly<Record<string, Option>> = {
  queue: { type: 'string', value: 'NAME', help: 'the queue (default AGIRUNNER_QUEUE, else "agirunner")' },
  help: { type: 'boolean', short: 'h', help: 'show this' },
}

export interface Arguments {
  readonly positionals: readonly string[]
  readonly values: Readonly<Record<string, string | boolean>>
}

/** Splits the command's name from the rest; options that every command takes may stand before it. */
export function splitCommand(argv: readonly string[]): { name: string | null; rest: string[] } {
  let index = 0
  while (argv[index]?.startsWith('-') && argv[index] !== '-') index += argv[index] === '--queue' ? 2 : 1
  const rest = argv.filter((_, i) => i !== index)
  return { name: argv[index] ?? null, rest }
}

/**
 * Reads a command's arguments.
 *
 * @throws CliError for an unknown option (with the nearest known one), a missing value, too few or too many arguments
 */
export function readArguments(name: string, command: Command, argv: readonly string[]): Arguments {
  const options = { ...COMMON, ...command.options }
  const { tokens } = parseArgs({ args: [...argv], options: forParser(options), strict: false, tokens: true })
  const values: Record<string, string | boolean> = {}
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const option = options[token.name]
    if (!option) throw unknownOption(name, token.rawName, Object.keys(options))
    values[token.name] = readValue(name, option, token)
  }
  if (values.help !== true) checkCount(name, command, positionals)
  return { positionals, values }
}

function forParser(options: Readonly<Record<string, Option>>) {
  return Object.fromEntries(
    Object.entries(options).map(([name, { type, short }]) => [name, { type, ...(short ? { short } : {}) }]),
  )
}

function readValue(
  name: string,
  option: Option,
  {
    rawName,
    value,
    inlineValue,
  }: { rawName: string; value: string | undefined; inlineValue: boolean | undefined },
): string | boolean {
  if (option.type === 'boolean') {
    if (value === undefined) return true
    throw new CliError(`${rawName} takes no value; it got ${JSON.stringify(value)}; leave that out`)
  }
  // `--reason --json` is a forgotten value far more often than a reason that starts with a dash.
  if (value === undefined || (!inlineValue && value.startsWith('-'))) {
    throw new CliError(`${rawName} needs a value; none was given; ${see(name)} shows how it is used`)
  }
  return value
}

function unknownOption(name: string, rawName: string, known: readonly string[]): CliError {
  const near = nearest(rawName.replace(/^-+/, ''), known)
  const hint = near ? `did you mean --${near}?` : `${see(name)} lists what there is`
  return new CliError(`${rawName} is no option of \`agirunner ${name}\`; it is not known; ${hint}`)
}

function checkCount(name: string, { takes }: Command, positionals: readonly string[]): void {
  if (positionals.length < takes.min) {
    throw new CliError(
      `\`agirunner ${name}\` needs ${takes.name}; none was given; ${see(name)} shows how it is used`,
    )
  }
  const extra = positionals[takes.max]
  if (extra === undefined) return
  throw new CliError(
    `${JSON.stringify(extra)} is one argument too many; ${see(name)} shows how it is used; leave it out`,
  )
}

function see(name: string): string {
  return `\`agirunner ${name} --help\``
}
