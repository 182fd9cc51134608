import { type EventType, type NewEvent, PHASES, type Phase, type Timings } from '@agirunner/contracts'
import { monotonicMs } from './support/lifecycle.js'

/** Where an attempt is, for a worker that goes on with it. */
export interface SavedState {
  readonly phase: Phase
  /** When that phase began, in milliseconds of the machine's monotonic clock. */
  readonly since: number
  /** Of the phases before, in milliseconds. */
  readonly durations: Readonly<Partial<Record<Phase, number>>>
}

/** Where an attempt's events go; it must not throw. */
export type EmitEvent = (event: NewEvent) => void

/**
 * Where an attempt is and how long each phase took. `enter` is the one door: each change of phase is checked, timed
 * and emitted as events there.
 */
export class AttemptState {
  readonly taskId: string
  readonly attempt: number
  readonly #emit: EmitEvent
  readonly #durations = new Map<Phase, number>()
  #phase: Phase = 'queued'
  #since = monotonicMs()
  #ran = false

  /** Goes on where another worker was, which told everything up to here. */
  static resume(
    saved: SavedState,
    options: { taskId: string; attempt: number; emit: EmitEvent },
  ): AttemptState {
    return new AttemptState({ ...options, queuedMs: saved.durations.queued ?? 0, saved })
  }

  constructor(options: {
    taskId: string
    attempt: number
    queuedMs: number
    emit: EmitEvent
    saved?: SavedState
  }) {
    this.taskId = options.taskId
    this.attempt = options.attempt
    this.#emit = options.emit
    if (options.saved) {
      const { phase, since, durations } = options.saved
      for (const [name, ms] of Object.entries(durations)) this.#durations.set(name as Phase, ms)
      this.#phase = phase
      this.#since = since
      this.#ran = PHASES.indexOf(phase) >= PHASES.indexOf('bootstrap')
      return
    }
    this.#durations.set('queued', options.queuedMs)
    if (options.attempt === 1) this.#event('phase.finished', { durationMs: options.queuedMs })
    this.#event('attempt.started', {})
  }

  save(): SavedState {
    return { phase: this.#phase, since: this.#since, durations: Object.fromEntries(this.#durations) }
  }

  get phase(): Phase {
    return this.#phase
  }

  /** Whether a command that the task brought was started, one of its bootstrap's included. */
  get ran(): boolean {
    return this.#ran
  }

  /**
   * @param at when it did, in milliseconds of the monotonic clock; now where it is left out
   * @throws Error when the attempt would go back: that is a defect of the caller's
   */
  enter(phase: Phase, at = monotonicMs()): void {
    if (PHASES.indexOf(phase) <= PHASES.indexOf(this.#phase)) {
      throw new Error(`attempt of ${this.taskId}: phase "${phase}" can't follow "${this.#phase}"`)
    }
    this.#finishPhase(at)
    this.#phase = phase
    this.#since = at
    if (phase === 'bootstrap' || phase === 'run') this.#ran = true
    this.#event('phase.started', {})
  }

  /** Enters `phase` unless the attempt is there or further. */
  reach(phase: Phase): void {
    if (PHASES.indexOf(phase) > PHASES.indexOf(this.#phase)) this.enter(phase)
  }

  progress(data: Record<string, unknown>): void {
    this.#event('phase.progress', data)
  }

  egressDenied(data: Record<string, unknown>): void {
    this.#event('egress.denied', data)
  }

  logTruncated(data: Record<string, unknown>): void {
    this.#event('log.truncated', data)
  }

  /** Ends the last phase; `outcome` is told with the attempt's end. */
  finish(outcome: Record<string, unknown>): void {
    this.#finishPhase()
    this.#event('attempt.finished', outcome)
  }

  /** What the attempt left is gone, which may be long after its end: told to who watches it, for its record is closed. */
  cleanedUp(durationMs: number): void {
    this.#event('phase.finished', { durationMs }, 'cleanup')
  }

  /** Durations of the phases so far, null where one was not reached; the running phase counts up to now. */
  timings(): Timings {
    const at = (phase: Phase) =>
      this.#durations.get(phase) ?? (phase === this.#phase ? monotonicMs() - this.#since : null)
    return {
      queuedMs: at('queued'),
      workspaceMs: at('workspace'),
      imageMs: at('image'),
      createMs: at('create'),
      startMs: at('start'),
      bootstrapMs: at('bootstrap'),
      runMs: at('run'),
      captureMs: at('capture'),
      reportMs: at('report'),
    }
  }

  #finishPhase(at = monotonicMs()): void {
    if (this.#durations.has(this.#phase)) return
    const durationMs = at - this.#since
    this.#durations.set(this.#phase, durationMs)
    this.#event('phase.finished', { durationMs })
  }

  #event(type: EventType, data: Record<string, unknown>, phase = this.#phase): void {
    this.#emit({
      version: 1,
      taskId: this.taskId,
      attempt: this.attempt,
      at: new Date().toISOString(),
      type,
      phase,
      data,
    })
  }
}
