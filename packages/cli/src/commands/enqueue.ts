import type { SendableTask } from '@agirunner/producer'
import { type Command, JSON_OPTION } from '../command.js'
import { CliError, EXIT } from '../errors.js'
import { readTasks } from '../read-tasks.js'

export const enqueue: Command = {
  usage: 'enqueue FILE…|- [--json]',
  summary: 'puts the tasks of files, or of stdin, into the queue',
  details:
    'A file holds one task as JSON, or one a line (NDJSON). All are checked before the first is sent.\n' +
    'The same task again is no error and changes nothing; another task under a known taskId is a conflict.',
  options: { json: JSON_OPTION },
  takes: { min: 1, max: Number.POSITIVE_INFINITY, name: 'a FILE, or - for stdin' },
  async run({ positionals, io, flag, producer }) {
    const tasks: SendableTask[] = []
    for (const source of positionals) tasks.push(...((await readTasks(source, io)) as SendableTask[]))
    if (tasks.length === 0) {
      throw new CliError('there is nothing to enqueue; the input is empty; give at least one task')
    }
    for (const { taskId, status } of await producer().enqueueMany(tasks)) {
      await io.out.line(flag('json') ? JSON.stringify({ taskId, status }) : `${taskId}: ${status}`)
    }
    return EXIT.ok
  },
}
