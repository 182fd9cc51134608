import { type Command, JSON_OPTION, ONE_ID } from '../command.js'
import { containerOf } from '../containers.js'
import { openEngine } from '../docker.js'
import { readSpan } from '../duration.js'
import { CliError, EXIT } from '../errors.js'
import { showDuration } from '../output.js'

const DEFAULT_SPAN = '1h'

export const keep: Command = {
  usage: 'keep [--for TTL] [--on-failure] [--off] ID [--json]',
  summary: "keeps a task's container beyond the task's end, for `agirunner exec`",
  details:
    'Ask before the task ends; the last request counts. What the task ran has ended then and /tmp is empty, but every\n' +
    "other file is as the task left it. It has no network. The worker's AGIRUNNER_MAX_KEEP is the longest time granted.\n" +
    "A canceled task's container is never kept.",
  options: {
    for: { type: 'string', value: 'TTL', help: `such as 90s, 30m, 2h or 1d (default ${DEFAULT_SPAN})` },
    'on-failure': { type: 'boolean', help: 'only when the task does not succeed' },
    off: { type: 'boolean', help: 'keep it no longer: what is kept on this machine is removed' },
    json: JSON_OPTION,
  },
  takes: ONE_ID,
  async run(call) {
    const { id, io, flag, option, producer } = call
    if (flag('off')) {
      await producer().keep(id, null)
      const removed = await removeKept(call.settings, id)
      const said = removed ? 'its container is removed' : 'nothing of it is kept on this machine'
      await io.out.line(flag('json') ? JSON.stringify({ taskId: id, removed }) : `${id}: ${said}`)
      return EXIT.ok
    }
    const forMs = readSpan(option('for') ?? DEFAULT_SPAN, '--for')
    const verdict = await producer().keep(id, { forMs, when: flag('on-failure') ? 'failure' : 'always' })
    if (verdict === 'finished') {
      throw new CliError(`${id} can't be kept; it has finished already; \`agirunner ps\` lists what is kept`)
    }
    const when = flag('on-failure') ? 'its end, if it fails' : 'its end'
    const said = `its container is kept for ${showDuration(forMs)} after ${when}`
    await io.out.line(flag('json') ? JSON.stringify({ taskId: id, keepForMs: forMs }) : `${id}: ${said}`)
    return EXIT.ok
  },
}

/** The worker's reaper takes the rest away once the container is gone. */
async function removeKept(settings: Parameters<typeof openEngine>[0], id: string): Promise<boolean> {
  const { docker } = await openEngine(settings)
  const found = await containerOf(docker, id)
  if (found?.kind !== 'kept') return false
  await docker.getContainer(found.id).remove({ force: true })
  return true
}
