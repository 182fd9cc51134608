import { nearest, unknownVariables } from '@agirunner/contracts'
import { createProducer, type Producer } from '@agirunner/producer'
import { readArguments, splitCommand } from './arguments.js'
import type { Call, Command } from './command.js'
import { COMMANDS } from './commands/index.js'
import { CliError, EXIT, explain } from './errors.js'
import { commandHelp, generalHelp } from './help.js'
import { type Io, Sink } from './output.js'
import { type Env, readSettings, redisUrlOf, type Settings, storageOf, version } from './settings.js'

/** Runs the command line of this process. */
export async function runAsProgram(): Promise<void> {
  const io: Io = { stdin: process.stdin, out: new Sink(process.stdout), err: new Sink(process.stderr) }
  process.exitCode = await main(process.argv.slice(2), process.env, io)
}

/** Runs one command line. @returns the exit code */
export async function main(argv: readonly string[], env: Env, io: Io): Promise<number> {
  try {
    const { name, rest } = splitCommand(argv)
    if (name === null) return await withoutCommand(argv, io)
    const entry = COMMANDS[name]
    if (!entry || !Object.hasOwn(COMMANDS, name)) throw unknownCommand(name)
    return await runCommand(name, await entry.load(), rest, env, io)
  } catch (error) {
    const { message, exitCode } = explain(error)
    await io.err.line(`error: ${message}`)
    return exitCode
  }
}

async function withoutCommand(argv: readonly string[], io: Io): Promise<number> {
  if (argv.includes('--version')) await io.out.line(version())
  else if (argv.includes('--help') || argv.includes('-h')) await io.out.line(help())
  else {
    await io.err.line(help())
    return EXIT.platform
  }
  return EXIT.ok
}

function help(): string {
  return generalHelp(Object.entries(COMMANDS).map(([name, { summary }]) => ({ name, summary })))
}

function unknownCommand(name: string): CliError {
  const near = nearest(name, Object.keys(COMMANDS))
  const hint = near ? `did you mean "${near}"?` : '`agirunner --help` lists what there is'
  return new CliError(`there is no command ${JSON.stringify(name)}; it is not known; ${hint}`)
}

async function runCommand(
  name: string,
  command: Command,
  argv: readonly string[],
  env: Env,
  io: Io,
): Promise<number> {
  const { positionals, values } = readArguments(name, command, argv)
  if (values.help === true) {
    await io.out.line(commandHelp(command))
    return EXIT.ok
  }
  for (const warning of unknownVariables(env)) await io.err.line(`agirunner: warning: ${warning}`)
  const settings = readSettings(env, typeof values.queue === 'string' ? values.queue : undefined)
  const producer = lazyProducer(settings)
  const option = (key: string) => {
    const value = values[key]
    return typeof value === 'string' ? value : undefined
  }
  const flag = (key: string) => values[key] === true
  const call: Call = {
    positionals,
    settings,
    io,
    flag,
    option,
    id: positionals[0] ?? '',
    producer: producer.get,
  }
  try {
    return await command.run(call)
  } finally {
    await producer.close()
  }
}

function lazyProducer(settings: Settings): { get: () => Producer; close: () => Promise<void> } {
  let producer: Producer | null = null
  return {
    get: () => {
      const storage = storageOf(settings)
      producer ??= createProducer({ redis: redisUrlOf(settings), queue: settings.queue, storage })
      return producer
    },
    close: async () => producer?.close(),
  }
}
