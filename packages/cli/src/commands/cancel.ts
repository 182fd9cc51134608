import { type Command, JSON_OPTION, ONE_ID } from '../command.js'
import { EXIT } from '../errors.js'

const SAID = {
  requested: 'it is asked to stop',
  already: 'it was asked to stop before',
  finished: 'it has finished already',
} as const

export const cancel: Command = {
  usage: 'cancel ID [--reason R] [--json]',
  summary: 'asks for a task to be canceled; its result then has the status "canceled"',
  options: {
    reason: { type: 'string', value: 'R', help: 'why; the first reason given stays' },
    json: JSON_OPTION,
  },
  takes: ONE_ID,
  async run({ id, io, flag, option, producer }) {
    const verdict = await producer().cancel(id, option('reason') ?? 'canceled from the command line')
    await io.out.line(
      flag('json') ? JSON.stringify({ taskId: id, cancel: verdict }) : `${id}: ${SAID[verdict]}`,
    )
    return EXIT.ok
  },
}
