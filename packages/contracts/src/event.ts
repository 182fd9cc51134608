import { z } from 'zod'
import { PHASES } from './failure.js'

export const EVENT_TYPES = [
  'phase.started',
  'phase.finished',
  'phase.progress',
  'attempt.started',
  'attempt.finished',
  'egress.denied',
  'cancel.requested',
  'log.truncated',
  'task.finished',
] as const

/** Something that happened to a task. `seq` grows by one within a task, over all its attempts. */
export const EventSchema = z.object({
  version: z.literal(1),
  taskId: z.string(),
  attempt: z.number().int().nonnegative(),
  seq: z.number().int().positive(),
  at: z.string(),
  type: z.enum(EVENT_TYPES),
  phase: z.enum(PHASES),
  data: z.record(z.string(), z.unknown()),
})
export type TaskEvent = z.infer<typeof EventSchema>
export type EventType = TaskEvent['type']
/** An event before the Redis script gave it its `seq`. */
export type NewEvent = Omit<TaskEvent, 'seq'>

/**
 * A piece of a task's log: whole UTF-8 characters, not necessarily whole lines. `offset` is where it starts in its
 * stream, in bytes as produced; `seq` grows by one within a task, over both streams and all attempts.
 */
export const LogEntrySchema = z.object({
  taskId: z.string(),
  attempt: z.number().int().positive(),
  seq: z.number().int().positive(),
  at: z.string(),
  stream: z.enum(['stdout', 'stderr']),
  step: z.string().nullable(),
  offset: z.number().int().nonnegative(),
  text: z.string(),
})
export type LogEntry = z.infer<typeof LogEntrySchema>

/**
 * What an entry of a log's Redis stream says, from its fields: `e` holds a LogEntry as JSON, and `t` its text, which then
 * is missing in `e`. As JSON the text of a flood cost its writer and each of its readers more than all else about it.
 *
 * @param seq from the entry's id
 * @returns null for the entry that ends the stream
 */
export function logEntryOf(seq: number, fields: ReadonlyMap<string, string>): LogEntry | null {
  const json = fields.get('e')
  if (json === undefined) return null
  const entry = JSON.parse(json) as LogEntry
  return { ...entry, text: fields.get('t') ?? entry.text, seq }
}
