export const ORIGINS = ['task', 'platform', 'operator', 'infrastructure'] as const
/** Whose matter a failure is: the task's own code, the platform's request, the operator's set-up, or the machinery. */
export type Origin = (typeof ORIGINS)[number]

/** In their order: an attempt may leave some out, and never goes back. */
export const PHASES = [
  'queued',
  'workspace',
  'image',
  'create',
  'start',
  'bootstrap',
  'run',
  'capture',
  'report',
  'cleanup',
] as const
export type Phase = (typeof PHASES)[number]

interface FailureKind {
  readonly origin: Origin
  readonly retryable: boolean
  /** What a person can do about it, for when the thrower knows nothing better. */
  readonly hint: string
}

const kind = (origin: Origin, retryable: boolean, hint: string): FailureKind => ({ origin, retryable, hint })

/** The one table of failures. Its codes are part of the contract: they may grow, never change. */
export const FAILURES = {
  'spec.invalid': kind(
    'platform',
    false,
    'correct the task as the message says; `agirunner schema task` shows the form',
  ),
  'spec.forbidden': kind('platform', false, 'ask the operator to allow it, or leave it out of the task'),
  'secret.unavailable': kind(
    'operator',
    false,
    "set the secret in the worker's environment or secret folder",
  ),
  'environment.unsupported': kind(
    'operator',
    false,
    'run `agirunner doctor` on the worker to see what it can enforce',
  ),
  'workspace.auth_failed': kind(
    'platform',
    false,
    'check the credentials of workspace.source and their rights',
  ),
  'workspace.not_found': kind(
    'platform',
    false,
    'check workspace.source.url; a private repository needs credentials',
  ),
  'workspace.ref_not_found': kind(
    'platform',
    false,
    'check workspace.source.ref; the remote has no such branch, tag or commit',
  ),
  'workspace.commit_not_found': kind(
    'platform',
    false,
    'check workspace.source.commit; it may have been rewritten away',
  ),
  'workspace.url_forbidden': kind(
    'platform',
    false,
    'use a public https address, or have the operator set AGIRUNNER_GIT_ALLOW_PRIVATE',
  ),
  'workspace.remote_unreachable': kind(
    'infrastructure',
    true,
    "check the host's name and that the worker can reach it",
  ),
  'workspace.remote_broken': kind(
    'infrastructure',
    true,
    'check that the address is a git repository over smart HTTP',
  ),
  'workspace.timeout': kind(
    'infrastructure',
    true,
    'the remote was too slow; try again or raise the deadline',
  ),
  'workspace.disk_full': kind(
    'infrastructure',
    true,
    "free some of the worker's disk, or lower AGIRUNNER_CACHE_BYTES",
  ),
  'workspace.too_large': kind('task', false, 'use a smaller repository or depth, or raise the limit'),
  'workspace.unsafe_tree': kind(
    'task',
    false,
    'the repository holds paths that no checkout may write; remove them',
  ),
  'image.not_found': kind(
    'platform',
    false,
    'check environment.image; `agirunner doctor` lists what is there',
  ),
  'image.auth_failed': kind('platform', false, 'give environment.registryCredentials that may pull it'),
  'image.incompatible': kind(
    'platform',
    false,
    "use an image for this machine's platform that has /bin/sh and env",
  ),
  'image.pull_failed': kind('infrastructure', true, "check that the engine reaches the image's registry"),
  'environment.bootstrap_failed': kind(
    'platform',
    false,
    'correct environment.bootstrap; the log shows its output',
  ),
  'container.create_failed': kind(
    'infrastructure',
    true,
    'look at the engine: `agirunner doctor` and its log',
  ),
  'container.start_failed': kind(
    'infrastructure',
    true,
    'look at the engine: `agirunner doctor` and its log',
  ),
  'task.exit_nonzero': kind('task', false, 'look at the log; the command ended with that status'),
  'task.out_of_memory': kind('task', false, 'use less memory or raise environment.resources.memory'),
  'task.pids_exhausted': kind('task', false, 'start fewer processes or raise environment.resources.pids'),
  'task.disk_full': kind('task', false, 'write less or raise environment.resources.disk'),
  'task.log_limit': kind('task', false, 'print less; the ceiling is the operator’s AGIRUNNER_LOG_CEILING'),
  'task.output_limit': kind('task', false, 'write less to output or raise limits.outputBytes'),
  'task.output_invalid': kind(
    'task',
    false,
    'write JSON to output/result.json, as capture.outputSchema asks',
  ),
  'task.killed': kind(
    'task',
    false,
    'the main process was killed from inside the container; look at the log',
  ),
  'task.timeout': kind('task', false, 'make it faster or raise limits.timeout'),
  'task.idle_timeout': kind(
    'task',
    false,
    'the task did nothing for limits.idleTimeout seconds; raise it or print progress',
  ),
  'task.canceled': kind('platform', false, 'it was asked for; enqueue again under another taskId to run it'),
  'task.expired': kind(
    'platform',
    false,
    'it waited longer than limits.queue; add workers or raise the limit',
  ),
  'capture.failed': kind(
    'infrastructure',
    true,
    "the task ran but its outcome could not be read; see the worker's log",
  ),
  'push.rejected': kind('platform', false, 'fetch the branch and try again, or allow the push'),
  'push.unreachable': kind('infrastructure', true, "check the host's name and that the worker can reach it"),
  'worker.lost': kind(
    'infrastructure',
    true,
    'the worker died; set retry.maxAttempts to run such tasks again',
  ),
  'worker.lease_lost': kind(
    'infrastructure',
    true,
    'the worker could not reach Redis for too long; look at both',
  ),
  'engine.unavailable': kind('infrastructure', true, "start the container engine on the worker's machine"),
  'engine.restarted': kind(
    'infrastructure',
    true,
    'the container engine restarted under the task; run it again',
  ),
} as const satisfies Record<string, FailureKind>

export type FailureCode = keyof typeof FAILURES
export const FAILURE_CODES = Object.keys(FAILURES) as [FailureCode, ...FailureCode[]]

/** A failure as the platform reads it in a result. */
export interface Failure {
  readonly code: FailureCode
  readonly origin: Origin
  readonly retryable: boolean
  readonly phase: Phase
  readonly message: string
  readonly hint: string
}

/**
 * The typed error that every room throws. `message` says what failed and why; secrets never are part of it.
 *
 * @example throw new TaskFailure('image.not_found', 'image, "acme/x:1" is not on this machine', {phase: 'image'})
 */
export class TaskFailure extends Error {
  readonly code: FailureCode
  readonly phase: Phase | null
  readonly hint: string

  constructor(
    code: FailureCode,
    message: string,
    options: { phase?: Phase; hint?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'TaskFailure'
    this.code = code
    this.phase = options.phase ?? null
    this.hint = options.hint ?? FAILURES[code].hint
  }

  /** The JSON of the contract; `phase` stands in where the thrower named none. */
  toFailure(phase: Phase): Failure {
    const { origin, retryable } = FAILURES[this.code]
    return {
      code: this.code,
      origin,
      retryable,
      phase: this.phase ?? phase,
      message: this.message,
      hint: this.hint,
    }
  }
}
