import winston from 'winston'

export type Log = winston.Logger

/** Structured log on stdout, one JSON object a line; errors with their stack. */
export function createLog(level: string, fields: Record<string, unknown>): Log {
  const { combine, timestamp, errors, json } = winston.format
  return winston.createLogger({
    level,
    defaultMeta: fields,
    format: combine(timestamp(), errors({ stack: true }), json()),
    transports: [new winston.transports.Stream({ stream: process.stdout })],
  })
}

/** An error as one line for a log or a message, never with its fields. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
