import type { Producer } from '@agirunner/producer'
import type { EventStream } from './event-stream.js'
import { logBatches } from './log-batches.js'
import { redact } from './redact.js'

/** Where a reader is in both of a task's streams: the seq of the last log entry and of the last event that it has. */
export interface Position {
  log: number
  events: number
}

/** So many entries before the first one that is wanted are read for what they begin: a key has some 60 lines. */
const CONTEXT = 128

/** The position that a browser gives back when it comes again; null for none. */
export function positionOf(lastEventId: string | undefined): Position | null {
  const [, log, events] = /^(\d{1,15})\.(\d{1,15})$/.exec(lastEventId ?? '') ?? []
  return log && events ? { log: Number(log), events: Number(events) } : null
}

/** Sends the log and the events of a task as they come, and `done` when nothing follows. */
export async function streamTask(
  producer: Producer,
  taskId: string,
  stream: EventStream,
  position: Position,
): Promise<void> {
  const at = { ...position }
  try {
    await Promise.all([sendLog(producer, taskId, stream, at), sendEvents(producer, taskId, stream, at)])
    await stream.send('done', '{}', idOf(at))
  } finally {
    // A stream that broke off is resumed by its reader.
    stream.close()
  }
}

async function sendLog(producer: Producer, taskId: string, stream: EventStream, at: Position): Promise<void> {
  const from = Math.max(1, at.log + 1 - CONTEXT)
  const entries = producer.logs(taskId, { from, follow: true, signal: stream.signal })
  for await (const batch of logBatches(entries)) {
    const wanted = batch.filter(({ seq }) => seq > at.log)
    const last = wanted.at(-1)
    if (!last) continue
    at.log = last.seq
    await stream.send('log', JSON.stringify(wanted), idOf(at))
  }
}

async function sendEvents(
  producer: Producer,
  taskId: string,
  stream: EventStream,
  at: Position,
): Promise<void> {
  const events = producer.events(taskId, { from: at.events + 1, follow: true, signal: stream.signal })
  for await (const event of events) {
    at.events = event.seq
    await stream.send('event', JSON.stringify([redact(event)]), idOf(at))
  }
}

function idOf({ log, events }: Position): string {
  return `${log}.${events}`
}
