import { type Command, ONE_ID } from '../command.js'
import { EXIT } from '../errors.js'

export const patch: Command = {
  usage: 'patch ID',
  summary: "prints the exact bytes of a task's patch to stdout",
  details: "Apply it to a clone at the result's base.commit: agirunner patch ID | git apply --index --binary",
  options: {},
  takes: ONE_ID,
  async run({ id, io, producer }) {
    for await (const chunk of producer().patch(id)) {
      await io.out.write(chunk)
      if (io.out.closed) break
    }
    return EXIT.ok
  },
}
