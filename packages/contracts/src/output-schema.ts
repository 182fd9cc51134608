import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv'
import { Ajv2019 } from 'ajv/dist/2019.js'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

/** The dialects that `$schema` may name, without `#` at the end; the first is meant when it is absent. */
const DIALECTS = [
  ['https://json-schema.org/draft/2020-12/schema', Ajv2020],
  ['https://json-schema.org/draft/2019-09/schema', Ajv2019],
  ['http://json-schema.org/draft-07/schema', Ajv],
] as const

const MAX_PROBLEMS = 20
const MAX_PROBLEM_LENGTH = 300

/** Says what is wrong with a value, one line each, most 20; nothing when it is as the schema says. */
export type OutputCheck = (value: unknown) => readonly string[]

/**
 * Compiles a task's `capture.outputSchema`: JSON Schema 2020-12, or what its `$schema` names of 2019-09 and draft-07.
 * Formats are checked, unknown keywords ignored, nothing is fetched. A schema may hold patterns and loops that take
 * any time: compile and check only schemas whose author you trust, or where you can end it.
 *
 * @throws Error saying in one line why it is no schema
 */
export function compileOutputSchema(schema: Readonly<Record<string, unknown>>): OutputCheck {
  const validate = compile(schema)
  return value => {
    if (validate(value)) return []
    return (validate.errors ?? []).slice(0, MAX_PROBLEMS).map(describe)
  }
}

function describe({ instancePath, message, params }: ErrorObject): string {
  const { additionalProperty, allowedValues } = params as Record<string, unknown>
  const detail = additionalProperty ?? allowedValues
  const problem = `${instancePath || 'the value'} ${message}`
  return (detail === undefined ? problem : `${problem}: ${JSON.stringify(detail)}`).slice(
    0,
    MAX_PROBLEM_LENGTH,
  )
}

function compile(schema: Readonly<Record<string, unknown>>): ValidateFunction {
  const { $schema } = schema
  const named = typeof $schema === 'string' ? $schema.replace(/#$/, '') : DIALECTS[0][0]
  const dialect = DIALECTS.find(([name]) => name === named)
  if (!dialect) throw new Error(`$schema must be one of ${DIALECTS.map(([name]) => name).join(', ')}`)
  // Errors go to whoever asked, not to a console.
  const ajv = new dialect[1]({ allErrors: true, strict: false, logger: false })
  addFormats.default(ajv)
  return ajv.compile(schema)
}
