import { jsonSchema, nearest, SCHEMA_NAMES, type SchemaName } from '@agirunner/contracts'
import type { Command } from '../command.js'
import { CliError, EXIT } from '../errors.js'

export const schema: Command = {
  usage: `schema ${SCHEMA_NAMES.join('|')}`,
  summary: 'prints the JSON Schema (draft 2020-12) of what travels',
  options: {},
  takes: { min: 1, max: 1, name: `one of ${SCHEMA_NAMES.join(', ')}` },
  async run({ id, io }) {
    await io.out.line(JSON.stringify(jsonSchema(nameOf(id)), null, 2))
    return EXIT.ok
  },
}

function nameOf(word: string): SchemaName {
  const name = SCHEMA_NAMES.find(known => known === word)
  if (name) return name
  const near = nearest(word, SCHEMA_NAMES)
  const hint = near ? `did you mean "${near}"?` : `choose one of ${SCHEMA_NAMES.join(', ')}`
  throw new CliError(`there is no schema ${JSON.stringify(word)}; it is not known; ${hint}`)
}
