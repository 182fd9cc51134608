import { FAILURES, formatSize, type Phase, type TaskEvent, type TaskResult, type Timings } from '@agirunner/contracts'
import { showDuration } from './output.js'

/** What an event says to a person who watches, null when it says nothing new. */
export function showEvent({ type, phase, data, attempt }: TaskEvent): string | null {
  switch (type) {
    case 'phase.started':
      return phase === 'run' ? 'run started' : null
    case 'phase.finished':
      return typeof data.durationMs === 'number' ? `${phase} ${showDuration(data.durationMs)}` : `${phase} finished`
    case 'phase.progress':
      return showProgress(phase, data)
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

function showProgress(phase: Phase, { currentBytes, totalBytes, message }: TaskEvent['data']): string {
  if (typeof currentBytes === 'number') {
    const of = typeof totalBytes === 'number' && totalBytes > 0 ? ` of ${formatSize(totalBytes)}` : ''
    return `${phase}: ${formatSize(currentBytes)}${of}`
  }
  return `${phase}: ${textOf(message)}`
}

function textOf(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '?'
}

/** The lines that end `agirunner run`. */
export function summaryOf(result: TaskResult): string[] {
  const lines = [headline(result)]
  const timings = showTimings(result.timings)
  if (timings) lines.push(timings)
  if (result.changes) lines.push(showChanges(result.taskId, result.changes))
  if (result.artifacts.length > 0) lines.push(`${count(result.artifacts.length, 'artifact')} kept`)
  if (result.logs?.truncated) lines.push('the log is not complete: it reached its limit')
  return lines
}

/** What failed, why, and what to do; null for a task that succeeded. */
export function failureOf({ taskId, status, failure }: TaskResult): string | null {
  if (!failure) return status === 'succeeded' ? null : `task ${taskId} is ${status}; it tells no reason; see its log`
  const how = { failed: 'failed', timed_out: 'timed out', canceled: 'was canceled', succeeded: 'succeeded' }[status]
  return `task ${taskId} ${how} (${failure.code}); ${failure.message}; ${failure.hint || FAILURES[failure.code].hint}`
}

function headline({ status, exit, startedAt, finishedAt, attempts, worker }: TaskResult): string {
  const parts: string[] = [status]
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

function showChanges(taskId: string, { files, insertions, deletions }: NonNullable<TaskResult['changes']>): string {
  if (files.length === 0) return 'no file changed'
  const lines = `${count(insertions, 'insertion')}(+), ${count(deletions, 'deletion')}(-)`
  return `${count(files.length, 'file')} changed, ${lines}; \`agirunner patch ${taskId}\` shows them`
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}
