import { type Command, FOLLOW_OPTION, FROM_OPTION, JSON_OPTION, ONE_ID } from '../command.js'
import { EXIT } from '../errors.js'
import { followOptions } from '../follow-options.js'

export const logs: Command = {
  usage: 'logs ID [-f] [--from SEQ] [--json]',
  summary: 'prints the log of a task: its stdout to stdout, its stderr to stderr, unaltered',
  options: {
    follow: FOLLOW_OPTION,
    from: FROM_OPTION,
    json: { ...JSON_OPTION, help: 'print one JSON entry a line, both streams to stdout' },
  },
  takes: ONE_ID,
  async run(call) {
    const { id, io, flag, producer } = call
    for await (const entry of producer().logs(id, followOptions(call))) {
      if (flag('json')) await io.out.line(JSON.stringify(entry))
      else await (entry.stream === 'stdout' ? io.out : io.err).write(entry.text)
      if (io.out.closed) break
    }
    return EXIT.ok
  },
}
