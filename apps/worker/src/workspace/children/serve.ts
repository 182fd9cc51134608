import { TaskFailure } from '@agirunner/contracts/failure'
import type { AnswerMessage, JobMessage } from './protocol.js'

export type Progress = (data: Record<string, unknown>) => void
export type Handler = (input: never, progress: Progress) => Promise<unknown>

/** At most four progress messages a second leave a child. In milliseconds. */
const PROGRESS_MS = 250

/** What a message may hold goes to Redis and to the board; part of it may be a server's or a repository's own words. */
const MAX_MESSAGE = 4000

/**
 * The child's side of a pool: runs the jobs that the parent sends, and ends with it. What a job throws as a
 * TaskFailure arrives there as one.
 */
export function serveJobs(handlers: Readonly<Record<string, Handler>>): void {
  process.on('message', (message: JobMessage) => void answer(message, handlers))
  process.on('disconnect', () => process.exit(0))
}

async function answer(job: JobMessage, handlers: Readonly<Record<string, Handler>>): Promise<void> {
  try {
    const handler = handlers[job.name]
    if (!handler) throw new Error(`there is no job "${job.name}"`)
    const result = await handler(job.input as never, throttled(job.id))
    send({ id: job.id, type: 'done', result: result ?? null })
  } catch (error) {
    send(describe(job.id, error))
  }
}

function describe(id: number, error: unknown): AnswerMessage {
  if (error instanceof TaskFailure) {
    const message = error.message.slice(0, MAX_MESSAGE)
    return { id, type: 'failed', failure: { code: error.code, message, hint: error.hint } }
  }
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { id, type: 'crashed', message: message.slice(0, MAX_MESSAGE) }
}

function throttled(id: number): Progress {
  let last = Number.NEGATIVE_INFINITY
  let stage: unknown
  return data => {
    const now = performance.now()
    if (data.stage === stage && now - last < PROGRESS_MS) return
    last = now
    stage = data.stage
    send({ id, type: 'progress', data })
  }
}

function send(message: AnswerMessage): void {
  if (process.connected) process.send?.(message)
}
