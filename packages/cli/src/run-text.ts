import { FAILURES, formatSize, type TaskEvent, type TaskResult, type Timings } from '@agirunner/contracts'
import type { Paint } from './colours.js'
import { showDuration } from './output.js'

/** Progress is told of what takes longer than this, and at most that often, in milliseconds. */
const PROGRESS_MS = 1000

/** Tells events to a person who watches, one line each. */
export class EventTeller {
  #toldAt = 0

  /** What an event says, null when it says nothing new. */
  tell(event: TaskEvent): string | null {
    const { type, phase, data, attempt } = event
    switch (type) {
      case 'phase.started':
        this.#toldAt = Date.parse(event.at)
        return phase === 'run' ? 'run started' : null
      case 'phase.finished':
        return typeof data.durationMs === 'number'
          ? `${phase} ${showDuration(data.durationMs)}`
          : `${phase} finished`
      case 'phase.progress':
        return this.#progress(event)
      case 'attempt.started':
        return attempt > 1 ? `attempt ${attempt} started` : null
      case 'egress.denied':
        return `network access denied: ${textOf(data.host)}:${textOf(data.port)}`
      case 'log.truncated':
        return 'the log reached its limit; the rest is left out'
      case 'cancel.requested':
        return `cancel requested: ${textOf(data.reason)}`
      case 'attempt.finished':
      case 'task.finished':
        return null
    }
  }

  #progress({ at, phase, data }: TaskEvent): string | null {
    if (Date.parse(at) - this.#toldAt < PROGRESS_MS) return null
    this.#toldAt = Date.parse(at)
    return `${phase}: ${Object.entries(data).map(showFact).join(', ')}`
  }
}

/** `['stage', 'fetch']` → `fetch`, `['receivedObjects', 12]` → `received objects 12`, `['totalBytes', 1536]` → `total 1.5Ki`. */
function showFact([key, value]: [string, unknown]): string {
  if (typeof value !== 'number') return textOf(value)
  const name = key.replace(/[A-Z]/g, letter => ` ${letter.toLowerCase()}`)
  return name.endsWith('bytes')
    ? `${name.replace(/ ?bytes$/, '')} ${formatSize(value)}`.trim()
    : `${name} ${value}`
}

function textOf(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '?'
}

/** The lines that end `agirunner run`. */
export function summaryOf(result: TaskResult, paint: Paint = word => word): string[] {
  const lines = [headline(result, paint)]
  const timings = showTimings(result.timings)
  if (timings) lines.push(timings)
  if (result.changes) lines.push(showChanges(result.taskId, result.changes))
  if (result.artifacts.length > 0) lines.push(`${count(result.artifacts.length, 'artifact')} kept`)
  if (result.logs?.truncated) lines.push('the log is not complete: it reached its limit')
  return lines
}

/** What failed, why, and what to do; null for a task that succeeded. */
export function failureOf({ taskId, status, failure }: TaskResult): string | null {
  if (!failure)
    return status === 'succeeded' ? null : `task ${taskId} is ${status}; it tells no reason; see its log`
  const how = { failed: 'failed', timed_out: 'timed out', canceled: 'was canceled', succeeded: 'succeeded' }[
    status
  ]
  return `task ${taskId} ${how} (${failure.code}); ${failure.message}; ${failure.hint || FAILURES[failure.code].hint}`
}

function headline(
  { status, exit, startedAt, finishedAt, attempts, worker }: TaskResult,
  paint: Paint,
): string {
  const parts: string[] = [paint(status)]
  if (exit?.code != null) parts.push(`exit ${exit.code}`)
  if (exit?.signal) parts.push(exit.signal)
  if (exit?.oomKilled) parts.push('out of memory')
  if (startedAt) parts.push(`in ${showDuration(Math.max(0, Date.parse(finishedAt) - Date.parse(startedAt)))}`)
  if (attempts.length > 1) parts.push(count(attempts.length, 'attempt'))
  if (worker) parts.push(`on ${worker.id}`)
  return parts.join(', ')
}

function showTimings(timings: Timings): string {
  return Object.entries(timings)
    .flatMap(([name, ms]) => (ms === null ? [] : [`${name.replace(/Ms$/, '')} ${showDuration(ms)}`]))
    .join(', ')
}

function showChanges(
  taskId: string,
  { files, insertions, deletions }: NonNullable<TaskResult['changes']>,
): string {
  if (files.length === 0) return 'no file changed'
  const lines = `${count(insertions, 'insertion')}(+), ${count(deletions, 'deletion')}(-)`
  return `${count(files.length, 'file')} changed, ${lines}; \`agirunner patch ${taskId}\` shows them`
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
