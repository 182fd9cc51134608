import { SpecError, type TaskResult } from '@agirunner/contracts'

/** Exit codes of every command; `run` and `result` give those of `exitCodeOf` for a finished task. */
export const EXIT = {
  ok: 0,
  /** The task's own code failed. */
  task: 1,
  /** A wrong call, an invalid task, a conflict, an unknown id; or a failure whose origin is the platform. */
  platform: 2,
  canceled: 3,
  timedOut: 4,
  /** Redis, the engine or the set-up; or a failure whose origin is the infrastructure or the operator. */
  infrastructure: 5,
  unfinished: 6,
  /** Told twice to stop. */
  interrupted: 130,
} as const

/** An error whose text is ready for a person: `what; why; what to do`. */
export class CliError extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode: number = EXIT.platform) {
    super(message)
    this.name = 'CliError'
    this.exitCode = exitCode
  }
}

/** What `run` and `result` exit with. */
export function exitCodeOf(result: TaskResult): number {
  switch (result.status) {
    case 'succeeded':
      return EXIT.ok
    case 'canceled':
      return EXIT.canceled
    case 'timed_out':
      return EXIT.timedOut
    case 'failed':
      return exitCodeOfOrigin(result.failure?.origin ?? 'task')
  }
}

function exitCodeOfOrigin(origin: NonNullable<TaskResult['failure']>['origin']): number {
  if (origin === 'task') return EXIT.task
  return origin === 'platform' ? EXIT.platform : EXIT.infrastructure
}

/** Exit codes of errors that come from other packages, by their `code`. */
const CODES: Readonly<Record<string, number>> = {
  'task.conflict': EXIT.platform,
  'task.unknown': EXIT.platform,
}

/** What is printed for an error, without `error: `, and what the command exits with. */
export function explain(error: unknown): { message: string; exitCode: number } {
  if (error instanceof CliError) return { message: error.message, exitCode: error.exitCode }
  if (error instanceof SpecError) return { message: explainSpec(error), exitCode: EXIT.platform }
  const message = error instanceof Error ? error.message : String(error)
  return { message, exitCode: storedCodeOf(error) ?? CODES[codeOf(error)] ?? EXIT.infrastructure }
}

function explainSpec({ problems }: SpecError): string {
  const hint = 'correct it: `agirunner schema task` shows the form'
  if (problems.length === 1) return `the task can't be accepted; ${problems[0]}; ${hint}`
  const list = problems.map(problem => `\n  - ${problem}`).join('')
  return `the task can't be accepted; it has ${problems.length} problems, listed below; ${hint}${list}`
}

function storedCodeOf(error: unknown): number | null {
  if (!['patch.unavailable', 'artifact.unavailable'].includes(codeOf(error))) return null
  const { reason } = error as { reason: string }
  if (reason === 'unfinished') return EXIT.unfinished
  return reason === 'not_captured' ? EXIT.platform : EXIT.infrastructure
}

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : ''
}
