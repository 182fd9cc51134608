import { z } from 'zod'
import { EventSchema, LogEntrySchema } from './event.js'
import { ResultSchema } from './result.js'
import { TaskSchema } from './task.js'

const SCHEMAS = {
  task: { schema: TaskSchema, io: 'input' },
  result: { schema: ResultSchema, io: 'output' },
  event: { schema: EventSchema, io: 'output' },
  log: { schema: LogEntrySchema, io: 'output' },
} as const
export type SchemaName = keyof typeof SCHEMAS
export const SCHEMA_NAMES = Object.keys(SCHEMAS) as SchemaName[]

/** The JSON Schema (draft 2020-12) of what travels; rules that need more than one key are only in `parseTask`. */
export function jsonSchema(name: SchemaName): Record<string, unknown> {
  const { schema, io } = SCHEMAS[name]
  return z.toJSONSchema(schema, { io, unrepresentable: 'any', override: showDefault }) as Record<
    string,
    unknown
  >
}

/** Of what becomes something else when it is read, zod shows no default by itself. */
function showDefault({
  zodSchema,
  jsonSchema: json,
}: {
  zodSchema: z.core.$ZodType
  jsonSchema: object
}): void {
  const shown = z.globalRegistry.get(zodSchema)?.default
  if (shown !== undefined) Object.assign(json, { default: shown })
}
