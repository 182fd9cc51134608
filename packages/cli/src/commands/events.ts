import type { TaskEvent } from '@agirunner/contracts'
import { type Command, FOLLOW_OPTION, FROM_OPTION, JSON_OPTION, ONE_ID } from '../command.js'
import { EXIT } from '../errors.js'
import { followOptions } from '../follow-options.js'
import { showDuration } from '../output.js'

export const events: Command = {
  usage: 'events ID [-f] [--from SEQ] [--json]',
  summary: 'prints what happened to a task, one event a line',
  options: { follow: FOLLOW_OPTION, from: FROM_OPTION, json: JSON_OPTION },
  takes: ONE_ID,
  async run(call) {
    const { id, io, flag, producer } = call
    for await (const event of producer().events(id, followOptions(call))) {
      await io.out.line(flag('json') ? JSON.stringify(event) : show(event))
      if (io.out.closed) break
    }
    return EXIT.ok
  },
}

function show({ seq, at, attempt, type, phase, data }: TaskEvent): string {
  const { durationMs, ...rest } = data
  const facts = Object.entries(rest).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  if (typeof durationMs === 'number') facts.unshift(showDuration(durationMs))
  const fields = [
    String(seq).padStart(3),
    at,
    `#${attempt}`,
    type.padEnd(16),
    phase.padEnd(9),
    facts.join(' '),
  ]
  return fields.join('  ').trimEnd()
}
