/**
 * The errors of the producer besides contracts' `SpecError`. Each has a `code` that programs may compare, and a message
 * of the form `what; why; what to do`.
 */
export class ProducerError extends Error {
  readonly code: string

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause })
    this.name = new.target.name
    this.code = code
  }
}

/** A taskId is taken by a task with other content. Nothing was changed. */
export class TaskConflictError extends ProducerError {
  /** Every taskId that is taken; more than one only from `enqueueMany`. */
  readonly taskIds: readonly string[]

  constructor(taskIds: readonly string[], why = 'another task with other content has it') {
    super(
      'task.conflict',
      `${list('task', taskIds)} can't be enqueued; ${why}; use a new taskId, or send the same content`,
    )
    this.taskIds = taskIds
  }
}

/** No task of this id is known to the queue: it never was enqueued, or its 7 days after the end are over. */
export class UnknownTaskError extends ProducerError {
  readonly taskId: string

  constructor(taskId: string, queue: string) {
    super(
      'task.unknown',
      `task ${taskId} is unknown; queue "${queue}" never had it, or it ended more than 7 days ago; ` +
        'check the id and the queue',
    )
    this.taskId = taskId
  }
}

/** Redis can't be reached, or refuses to work. What was asked may or may not have been done; all calls can be repeated. */
export class RedisUnavailableError extends ProducerError {
  constructor(address: string, why: string, cause?: unknown) {
    super(
      'redis.unavailable',
      `Redis at ${address} can't be used; ${why}; check that it runs and that the address is right, then repeat the call`,
      { cause },
    )
  }
}

/** The patch of a task can't be read. `reason` tells programs why. */
export class PatchUnavailableError extends ProducerError {
  readonly taskId: string
  readonly reason: 'unfinished' | 'not_captured' | 'elsewhere' | 'damaged'

  constructor(
    taskId: string,
    reason: PatchUnavailableError['reason'],
    why: string,
    hint: string,
    cause?: unknown,
  ) {
    super('patch.unavailable', `the patch of task ${taskId} can't be read; ${why}; ${hint}`, { cause })
    this.taskId = taskId
    this.reason = reason
  }
}

/** Something that a task left can't be read. `reason` tells programs why. */
export class ArtifactUnavailableError extends ProducerError {
  readonly taskId: string
  readonly path: string
  readonly reason: PatchUnavailableError['reason']

  constructor(
    of: { taskId: string; path: string; reason: ArtifactUnavailableError['reason'] },
    why: string,
    hint: string,
    cause?: unknown,
  ) {
    const { taskId, path, reason } = of
    super(
      'artifact.unavailable',
      `artifact ${JSON.stringify(path)} of task ${taskId} can't be read; ${why}; ${hint}`,
      {
        cause,
      },
    )
    this.taskId = taskId
    this.path = path
    this.reason = reason
  }
}

/** A call on a producer that was closed. */
export class ProducerClosedError extends ProducerError {
  constructor() {
    super('producer.closed', 'the producer is closed; close() was called; create another one')
  }
}

function list(noun: string, ids: readonly string[]): string {
  const shown = ids.slice(0, 10).join(', ')
  const more = ids.length > 10 ? ` and ${ids.length - 10} more` : ''
  return `${noun}${ids.length === 1 ? '' : 's'} ${shown}${more}`
}
