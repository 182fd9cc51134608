import type { Command } from '../command.js'
import { containerOf, type RuntimeContainer } from '../containers.js'
import { openEngine } from '../docker.js'
import { CliError } from '../errors.js'
import { execIn } from '../exec-session.js'

export const exec: Command = {
  usage: 'exec [-i] [--user USER] ID [-- CMD ARG…]',
  summary: "runs a command in a task's container on this machine, while it lives or is kept",
  details:
    "CMD is /bin/sh when it is left out. It runs as the task's user, under the task's limits, in /workspace/repo; on a\n" +
    "terminal it has that terminal. Exits with CMD's own status. What it changes is the task's change too.",
  options: {
    interactive: { type: 'boolean', short: 'i', help: 'pass stdin on to CMD' },
    user: { type: 'string', value: 'USER', help: "a user of the image, or UID:GID (default the task's)" },
  },
  takes: { min: 1, max: Number.POSITIVE_INFINITY, name: 'the ID of a task' },
  async run({ id, positionals, settings, io, flag, option }) {
    const { docker } = await openEngine(settings)
    const found = whole(id, await containerOf(docker, id))
    const terminal = process.stdin.isTTY === true && io.out.isTerminal
    const command = positionals.slice(1)
    try {
      return await execIn(
        docker.getContainer(found.id),
        {
          command: command.length > 0 ? command : ['/bin/sh'],
          taskId: id,
          user: option('user') ?? null,
          stdin: terminal || flag('interactive'),
          terminal,
        },
        io,
      )
    } catch (error) {
      const { message } = error as Error
      throw new CliError(
        `the command can't be run in ${found.name}; ${message.trim()}; correct it, or see \`agirunner ps\``,
      )
    }
  },
}

/** @throws CliError when there is no container to look into */
function whole(id: string, found: RuntimeContainer | null): RuntimeContainer {
  if (found?.state === 'running') return found
  const why = found ? `its container is ${found.state}` : 'it has none on this machine'
  throw new CliError(
    `there is no container of ${id} to look into; ${why}; \`agirunner keep\` keeps one beyond its task's end`,
  )
}
