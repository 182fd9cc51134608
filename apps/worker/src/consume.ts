import {
  type AttemptRecord,
  type Status,
  type Task,
  TaskFailure,
  type TaskJobData,
} from '@agirunner/contracts'
import { AttemptState, type EmitEvent } from './attempt-state.js'
import { accept, isNewer, parseJob } from './intake/accept.js'
import type { AcceptedTask } from './intake/accepted-task.js'
import { type Cancellations, canceledFailure } from './intake/cancellations.js'
import { holdLease } from './intake/lease.js'
import { holdToLimits } from './intake/limits.js'
import type { TaskRecord, TaskRecords } from './intake/records.js'
import type { SecretPolicy } from './intake/secrets.js'
import { EventWriter, finishedEvent } from './report/events.js'
import { asTaskFailure, statusOf } from './report/outcome.js'
import { redactAttempt, redactResult } from './report/redact.js'
import { buildResult, identify, NOTHING_REACHED, type Reached } from './report/result.js'
import { retryDelay } from './report/retry.js'
import { cancelWaiting } from './report/waiting.js'
import { type AttemptOutcome, type Begun as BegunContainer, type Rooms, runTask } from './run-task.js'
import { sleep } from './support/lifecycle.js'
import type { LimitPolicy } from './support/limit-policy.js'
import type { Log } from './support/log.js'
import type { ObservedAttempt, Observer } from './support/observer.js'
import { Redactor } from './support/redactor.js'

export interface ConsumeOptions {
  readonly rooms: Rooms
  readonly records: TaskRecords
  readonly cancellations: Cancellations
  readonly secrets: SecretPolicy
  readonly limits: LimitPolicy
  readonly worker: { readonly id: string; readonly host: string }
  readonly log: Log
  readonly observer: Observer
  /** What this worker has taken over of a task and not ended yet; settles when it has. */
  readonly adopted: (taskId: string) => Promise<void> | null
  /** Takes over what dead workers left that this one can go on with. */
  readonly adopt: () => Promise<void>
  /** Aborts when the worker must give its tasks back. */
  readonly drained: AbortSignal
}

/** What became of a job: its task's status, or that it belongs back in the queue. */
export type Consumed =
  | { readonly type: 'ended'; readonly status: Status; readonly message: string }
  | { readonly type: 'elsewhere' }
  | { readonly type: 'requeue' }
  | { readonly type: 'newer' }

/** An attempt that was given back because the worker is drained: it costs nothing and leaves no failure. */
class Drained extends Error {}

type Settled = { readonly type: 'retry'; readonly delayMs: number } | Consumed

/**
 * Takes one job to its end: attempts follow one another until one is the task's result. A job may come twice, and come
 * back after its worker died; the fence of each attempt makes sure that only the last one is heard.
 */
export async function consume(jobId: string, data: TaskJobData, options: ConsumeOptions): Promise<Consumed> {
  if (isNewer(data)) return { type: 'newer' }
  let parsed: Parsed | null = null
  for (;;) {
    await options.adopted(jobId)
    if (options.drained.aborted) return { type: 'requeue' }
    const startedAt = new Date().toISOString()
    // Before the answer that tells whether it is canceled already: none can come between the two.
    const abort = new AbortController()
    const unwatch = options.cancellations.listen(jobId, failure => abort.abort(failure))
    const beginning = options.records.begin(jobId, options.worker.id, startedAt)
    // While the question is on its way.
    parsed ??= tryParse(data)
    const begun = await beginning.catch(error => {
      unwatch()
      throw error
    })
    if (begun.state !== 'started') unwatch()
    if (begun.state === 'finished') return { type: 'elsewhere' }
    if (begun.state === 'leased') {
      // The worker that holds it may be dead or only slow: its lease tells, and it gives up before the lease ends.
      await options.adopt()
      if (options.adopted(jobId) !== null) continue
      const waited = await sleep(begun.leftMs + 50, options.drained).then(
        () => true,
        () => false,
      )
      if (!waited) return { type: 'requeue' }
      continue
    }
    if (begun.cancelReason !== null) abort.abort(canceledFailure(begun.cancelReason))
    const job = { taskId: jobId, data, parsed }
    const settled = await new Attempt(job, { ...begun, startedAt }, options, { abort, unwatch }).run()
    if (settled.type !== 'retry') return settled
    const rested = await rest(jobId, settled.delayMs, options)
    if (rested !== null) return rested
  }
}

/** Waits before the next attempt. @returns what ended the job meanwhile; null when it is time */
async function rest(taskId: string, delayMs: number, options: ConsumeOptions): Promise<Consumed | null> {
  const canceled = new AbortController()
  const unwatch = await options.cancellations.watch(taskId, failure => canceled.abort(failure))
  try {
    await sleep(delayMs, AbortSignal.any([options.drained, canceled.signal]))
    return null
  } catch {
    if (!canceled.signal.aborted) return { type: 'requeue' }
    await cancelWaiting(taskId, options)
    return { type: 'elsewhere' }
  } finally {
    unwatch()
  }
}

/** The task of a job, or why it can't be read. */
type Parsed = Task | TaskFailure

function tryParse(data: TaskJobData): Parsed {
  try {
    return parseJob(data)
  } catch (error) {
    return asTaskFailure(error, 'queued')
  }
}

interface TaskJob {
  readonly taskId: string
  readonly data: TaskJobData
  readonly parsed: Parsed
}

interface Begun {
  readonly fence: number
  readonly attempt: number
  readonly startedAt: string
  /** As it was when the attempt began; not there of one that another worker began. */
  readonly record?: TaskRecord
}

/** What aborts an attempt, and how to hear of no more cancels. */
interface Cancelable {
  readonly abort: AbortController
  readonly unwatch: () => void
}

/** An attempt that another worker, which died, has begun, and whose lease is this worker's now. */
export interface AdoptedAttempt extends BegunContainer {
  readonly data: TaskJobData
  readonly accepted: AcceptedTask
}

/**
 * Takes such an attempt to its end, without its job: whoever gets that meanwhile waits for the lease, and finds the result
 * or begins the next attempt.
 */
export async function resumeAttempt(adopted: AdoptedAttempt, options: ConsumeOptions): Promise<void> {
  const { taskId } = adopted.claim
  const abort = new AbortController()
  const unwatch = await options.cancellations.watch(taskId, failure => abort.abort(failure))
  const job = { taskId, data: adopted.data, parsed: adopted.accepted.task }
  await new Attempt(job, adopted.accepted, options, { abort, unwatch }, adopted).run()
}

/** One fenced attempt, from the lease to the settled outcome. */
class Attempt {
  readonly #taskId: string
  readonly #data: TaskJobData
  readonly #parsed: Parsed
  readonly #begun: Begun
  readonly #options: ConsumeOptions
  readonly #events: EventWriter
  readonly #observed: ObservedAttempt
  readonly #state: AttemptState
  readonly #abort: AbortController
  readonly #unwatch: () => void
  readonly #adopted: AdoptedAttempt | null
  #task: Task | null = null
  /** Until the task is accepted, it knows no secrets but by their looks. */
  #redactor = Redactor.of([])

  constructor(
    { taskId, data, parsed }: TaskJob,
    begun: Begun,
    options: ConsumeOptions,
    { abort, unwatch }: Cancelable,
    adopted: AdoptedAttempt | null = null,
  ) {
    this.#abort = abort
    this.#unwatch = unwatch
    this.#taskId = taskId
    this.#data = data
    this.#parsed = parsed
    this.#begun = begun
    this.#options = options
    this.#events = new EventWriter(options.records, { taskId, fence: begun.fence }, options.log)
    this.#adopted = adopted
    const { attempt, startedAt } = begun
    const observed = options.observer.attempt({ taskId, attempt, startedAt, data, adopted: adopted !== null })
    this.#observed = observed
    const emit: EmitEvent = event => {
      observed.event(event)
      // The record ends with the result, which does not wait for the cleanup.
      if (event.phase !== 'cleanup') this.#events.emit({ ...event, data: this.#redactor.json(event.data) })
    }
    const queuedMs = Math.max(0, Date.parse(begun.startedAt) - Date.parse(data.createdAt))
    this.#state = adopted
      ? AttemptState.resume(adopted.claim.state, { taskId, attempt, emit })
      : new AttemptState({ taskId, attempt, queuedMs, emit })
  }

  async run(): Promise<Settled> {
    const { records, drained } = this.#options
    const stop = (reason: Error) => this.#abort.abort(reason)
    const onDrain = () => stop(new Drained('the worker is drained'))
    const lease = holdLease(records, { taskId: this.#taskId, fence: this.#begun.fence }, stop)
    drained.addEventListener('abort', onDrain, { once: true })
    if (drained.aborted) onDrain()
    const adopted = this.#adopted
    try {
      return await (adopted ? this.#goOn(adopted) : this.#work())
    } finally {
      this.#unwatch()
      drained.removeEventListener('abort', onDrain)
      await lease.release()
      await this.#events.flush()
      this.#observed.end()
    }
  }

  async #work(): Promise<Settled> {
    const { rooms, records, secrets, limits } = this.#options
    try {
      const record = this.#begun.record ?? (await records.read(this.#taskId))
      if (this.#parsed instanceof TaskFailure) throw this.#parsed
      this.#task = this.#parsed
      const lost = await this.#closeLost(record)
      const verdict = lost && (await this.#judgeLost(lost, record))
      if (verdict) return verdict
      const begun = { ...this.#begun, createdAt: this.#data.createdAt }
      const { traceparent } = this.#observed
      const held = { ...holdToLimits(this.#task, this.#data.task, limits), traceparent }
      const accepted = await accept(held, begun, secrets)
      this.#redactor = accepted.redactor
      return await runTask(rooms, accepted, this.#state, this.#abort.signal, outcome =>
        this.#settle(outcome, this.#state.ran),
      )
    } catch (error) {
      return await this.#settle(
        { failure: asTaskFailure(error, this.#state.phase), reached: NOTHING_REACHED },
        this.#state.ran,
      )
    }
  }

  async #goOn(adopted: AdoptedAttempt): Promise<Settled> {
    const { accepted, claim } = adopted
    this.#task = accepted.task
    this.#redactor = accepted.redactor
    this.#state.progress({ adoptedFrom: claim.worker, adoptedBy: this.#options.worker.id })
    const settle = (outcome: AttemptOutcome) => this.#settle(outcome, this.#state.ran)
    return await runTask(this.#options.rooms, accepted, this.#state, this.#abort.signal, settle, adopted)
  }

  /** Writes down earlier attempts whose worker died; returns the last of them. */
  async #closeLost(record: TaskRecord): Promise<AttemptRecord | null> {
    const open = record.attempts.filter(one => one.finishedAt === null && one.attempt !== this.#begun.attempt)
    const closed = open.map(one => ({
      ...one,
      finishedAt: this.#begun.startedAt,
      failure: new TaskFailure(
        'worker.lost',
        `worker ${one.worker} died during attempt ${one.attempt}`,
      ).toFailure(record.ran.has(one.attempt) ? 'run' : 'workspace'),
    }))
    for (const one of closed) await this.#options.records.amend(this.#taskId, one)
    return closed.at(-1) ?? null
  }

  /** A lost attempt that ran may have been the task's last one: then its loss is the result. */
  async #judgeLost(lost: AttemptRecord, record: TaskRecord): Promise<Settled | null> {
    const failure = new TaskFailure('worker.lost', lost.failure?.message ?? 'the worker died', {
      phase: lost.failure?.phase ?? 'run',
    })
    const before = record.attempts.filter(one => one.attempt !== this.#begun.attempt)
    const facts = {
      failure,
      ran: record.ran.has(lost.attempt),
      attempts: before.length,
      ranAttempts: record.ran.size,
    }
    if (this.#task && retryDelay(this.#task, facts) !== null) return null
    return await this.#finish(failure, NOTHING_REACHED)
  }

  async #settle(outcome: AttemptOutcome, ran: boolean): Promise<Settled> {
    const reason: unknown = this.#abort.signal.reason
    if (reason instanceof Drained) return await this.#giveBack()
    if (reason instanceof TaskFailure && reason.code === 'worker.lease_lost')
      return { type: 'retry', delayMs: 0 }
    const { failure } = outcome
    if (failure && this.#task) {
      const record = await this.#options.records.read(this.#taskId)
      // What is marked counts, whatever was seen of it: else an attempt that fails at its start is tried for ever.
      const counts = ran || record.ran.has(this.#begun.attempt)
      const facts = { failure, ran: counts, attempts: record.attempts.length, ranAttempts: record.ran.size }
      const delayMs = retryDelay(this.#task, facts)
      if (delayMs !== null) return await this.#retry(failure, delayMs)
    }
    return await this.#finish(failure, outcome.reached)
  }

  async #retry(failure: TaskFailure, delayMs: number): Promise<Settled> {
    this.#state.finish({ failure: failure.code, retryInMs: delayMs })
    await this.#events.flush()
    const own = this.#record(failure)
    await this.#options.records.end(this.#taskId, this.#begun.fence, own)
    this.#options.log.warn('attempt failed, trying again', {
      taskId: this.#taskId,
      code: failure.code,
      reason: own.failure?.message,
      delayMs,
    })
    return { type: 'retry', delayMs }
  }

  async #giveBack(): Promise<Settled> {
    this.#state.finish({ drained: true })
    await this.#events.flush()
    await this.#options.records.giveBack(this.#taskId, this.#begun.fence, this.#begun.attempt)
    return { type: 'requeue' }
  }

  /** Writes the one result, unless a later attempt has taken over. */
  async #finish(failure: TaskFailure | null, reached: Reached): Promise<Settled> {
    const { records, worker, log } = this.#options
    // The failure's phase is where it happened, so it is read before the report begins.
    const own = this.#record(failure)
    this.#state.reach('report')
    const [record] = await Promise.all([records.read(this.#taskId), this.#events.flush()])
    const built = buildResult({
      identity: identify(this.#taskId, this.#data),
      task: this.#task,
      status: statusOf(failure),
      failure: own.failure,
      createdAt: record.createdAt ?? this.#data.createdAt,
      attempts: [...record.attempts.filter(one => one.attempt !== own.attempt), own],
      reached: { ...reached, timings: this.#state.timings() },
      worker,
    })
    const result = redactResult(built, this.#redactor)
    this.#state.finish({ status: result.status, failure: failure?.code ?? null })
    const events = [...this.#events.take(), finishedEvent(result, own.attempt)]
    const written = await records.finish(this.#begun.fence, result, events, own)
    log.info('task finished', { taskId: this.#taskId, status: result.status, code: failure?.code, written })
    if (written !== 'written') return { type: 'elsewhere' }
    return {
      type: 'ended',
      status: result.status,
      message: result.failure ? `${result.failure.code}: ${result.failure.message}` : 'succeeded',
    }
  }

  #record(failure: TaskFailure | null): AttemptRecord {
    const record: AttemptRecord = {
      attempt: this.#begun.attempt,
      fence: this.#begun.fence,
      worker: this.#options.worker.id,
      startedAt: this.#begun.startedAt,
      finishedAt: new Date().toISOString(),
      failure: failure?.toFailure(this.#state.phase) ?? null,
    }
    return redactAttempt(record, this.#redactor)
  }
}
