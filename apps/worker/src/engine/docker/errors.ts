import { type FailureCode, TaskFailure } from '@agirunner/contracts'

/** What dockerode rejects with: an HTTP answer of the engine, or an error of the connection without `statusCode`. */
interface EngineError {
  readonly statusCode?: number
  readonly code?: string
  readonly message: string
  readonly json?: { readonly message?: string }
}

export function asEngineError(error: unknown): EngineError {
  return error instanceof Error ? (error as Error & EngineError) : { message: String(error) }
}

export function hasStatus(error: unknown, ...statuses: readonly number[]): boolean {
  const status = asEngineError(error).statusCode
  return status !== undefined && statuses.includes(status)
}

/**
 * The failure that an engine's error stands for: `code` when the engine answered, `engine.unavailable` when it could
 * not be reached at all.
 */
export function toFailure(error: unknown, code: FailureCode, doing: string): TaskFailure {
  if (error instanceof TaskFailure) return error
  const { statusCode, json, message } = asEngineError(error)
  const said = (json?.message ?? message).trim()
  if (statusCode === undefined) {
    return new TaskFailure('engine.unavailable', `${doing}: the container engine can't be reached; ${said}`, {
      cause: error,
    })
  }
  return new TaskFailure(code, `${doing}: the engine answered ${statusCode}; ${said}`, { cause: error })
}
