import { type Command, ONE_ID } from '../command.js'
import { EXIT, exitCodeOf } from '../errors.js'

export const result: Command = {
  usage: 'result ID [--json]',
  summary: 'prints the result of a task as JSON',
  details: 'Exits with the code of the result, or with 6 when the task has not finished yet.',
  options: { json: { type: 'boolean', help: 'print it on one line' } },
  takes: ONE_ID,
  async run({ id, io, flag, producer }) {
    const found = await producer().result(id)
    if (!found) {
      await io.err.line(`agirunner: ${id} has not finished yet; \`agirunner logs ${id} -f\` follows it`)
      return EXIT.unfinished
    }
    await io.out.line(flag('json') ? JSON.stringify(found) : JSON.stringify(found, null, 2))
    return exitCodeOf(found)
  },
}
