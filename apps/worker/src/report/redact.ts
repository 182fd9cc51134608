import type { AttemptRecord, Changes, TaskResult } from '@agirunner/contracts'
import type { Redactor } from '../support/redactor.js'

/**
 * A result in which no text that a task could choose, and no word of others about it, holds a secret. What identifies,
 * such as ids, hashes and codes, stays as it is.
 */
export function redactResult(result: TaskResult, redactor: Redactor): TaskResult {
  return {
    ...result,
    failure: redactFailure(result.failure, redactor),
    attempts: result.attempts.map(attempt => redactAttempt(attempt, redactor)),
    changes: result.changes && redactChanges(result.changes, redactor),
    output: redactor.json(result.output),
    skipped: redactor.json(result.skipped),
    egressDenied: redactor.json(result.egressDenied),
  }
}

export function redactAttempt(attempt: AttemptRecord, redactor: Redactor): AttemptRecord {
  return { ...attempt, failure: redactFailure(attempt.failure, redactor) }
}

function redactFailure(failure: TaskResult['failure'], redactor: Redactor): TaskResult['failure'] {
  if (failure === null) return null
  const { message, hint } = failure
  return { ...failure, ...redactor.json({ message, hint }) }
}

function redactChanges(changes: Changes, redactor: Redactor): Changes {
  const { files, commits, notes } = changes
  return { ...changes, ...redactor.json({ files, commits, notes }) }
}
