import { createRequire } from 'node:module'
import type { Ajv, ErrorObject, ValidateFunction } from 'ajv'
import type addFormats from 'ajv-formats'

/** Loaded when the first schema is compiled: that takes some 40 ms, for which no other command should wait. */
const load = createRequire(import.meta.url)

/** The dialects that `$schema` may name, without `#` at the end, and who reads each; the first is meant when it is absent. */
const DIALECTS = [
  ['https://json-schema.org/draft/2020-12/schema', 'ajv/dist/2020.js'],
  ['https://json-schema.org/draft/2019-09/schema', 'ajv/dist/2019.js'],
  ['http://json-schema.org/draft-07/schema', 'ajv'],
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
  const { default: Reader } = load(dialect[1]) as { default: typeof Ajv }
  const ajv = new Reader({ allErrors: true, strict: false, logger: false })
  const { default: formats } = load('ajv-formats') as { default: typeof addFormats.default }
  formats(ajv)
  return ajv.compile(schema)
}
