import { COMMON } from './arguments.js'
import type { Command, Option } from './command.js'
import { table } from './output.js'

const EXIT_CODES = [
  ['0', 'succeeded'],
  ['1', "the task's own code failed"],
  [
    '2',
    'a wrong call, an invalid task, a conflict or an unknown id; or the repository or image named is wrong',
  ],
  ['3', 'canceled'],
  ['4', 'timed out'],
  ['5', 'infrastructure or operator: Redis, the engine, the set-up'],
  ['6', 'not finished yet'],
]

/** The help of `agirunner` itself. */
export function generalHelp(commands: readonly { name: string; summary: string }[]): string {
  const lines = [
    'usage: agirunner COMMAND [options]',
    '',
    'Runs tasks: each in a fresh workspace and an isolated container of its own.',
    '',
    ...indent(table(commands.map(({ name, summary }) => [name, summary]))),
    '',
    '`agirunner COMMAND --help` tells more; `agirunner --version` tells the version.',
    'Redis is found by REDIS_URL, else where `agirunner up` runs it.',
    '',
    'exit codes of `run` and `result`:',
    ...indent(table(EXIT_CODES)),
  ]
  return lines.join('\n')
}

/** The help of one command. */
export function commandHelp({ usage, summary, details, options }: Command): string {
  const all = Object.entries({ ...options, ...COMMON }).map(([name, option]) => [
    spell(name, option),
    option.help,
  ])
  const lines = [`usage: agirunner ${usage}`, '', `${summary[0]?.toUpperCase()}${summary.slice(1)}.`]
  if (details) lines.push('', details)
  lines.push('', 'options:', ...indent(table(all)))
  return lines.join('\n')
}

function spell(name: string, { short, value }: Option): string {
  return `${short ? `-${short}, ` : ''}--${name}${value ? ` ${value}` : ''}`
}

function indent(lines: readonly string[]): string[] {
  return lines.map(line => `  ${line}`)
}
