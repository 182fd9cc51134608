import { type FailureCode, type Phase, TaskFailure } from '@agirunner/contracts'

/** Anything that must be given back, whatever happened. `release` may be called twice. */
export interface Releasable {
  release(): Promise<void>
}

/** What a cleanup step that failed is told to; it must not throw. */
export type ReportLeak = (what: string, error: unknown) => void

/**
 * Gives back what was taken, last first. A step that fails is reported and the rest still run: cleanup never hides the
 * cause of a failure, and never stops half-way.
 */
export class ReleaseStack {
  readonly #steps: { name: string; run: () => Promise<void> }[] = []
  readonly #report: ReportLeak

  constructor(report: ReportLeak) {
    this.#report = report
  }

  /** Owns `thing` from now on and returns it, so that taking and owning are one line. */
  own<T extends Releasable>(thing: T, name: string): T {
    this.defer(name, () => thing.release())
    return thing
  }

  defer(name: string, run: () => Promise<void>): void {
    this.#steps.push({ name, run })
  }

  /** Forgets everything: from now on it is somebody else's to give back. */
  disown(): void {
    this.#steps.length = 0
  }

  async all(): Promise<void> {
    for (let step = this.#steps.pop(); step; step = this.#steps.pop()) {
      try {
        await step.run()
      } catch (error) {
        this.#report(step.name, error)
      }
    }
  }
}

/** Milliseconds on a clock that no change of the system's time moves. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n)
}

/**
 * Runs `work` with a signal that aborts at the deadline or with the outer signal, whichever is first, and does not
 * outlast either: when `work` ignores its signal, the promise rejects all the same.
 *
 * @throws TaskFailure with `code` at the deadline; the outer signal's reason when that aborted
 */
export async function withDeadline<T>(
  options: { ms: number; code: FailureCode; what: string; phase: Phase; signal?: AbortSignal },
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const passed = () =>
    controller.abort(
      new TaskFailure(options.code, `${options.what} took longer than ${options.ms} ms`, {
        phase: options.phase,
      }),
    )
  const outer = () => controller.abort(options.signal?.reason)
  const timer = setTimeout(passed, options.ms)
  options.signal?.addEventListener('abort', outer, { once: true })
  if (options.signal?.aborted) outer()
  try {
    return await Promise.race([rejectOnAbort(controller.signal), work(controller.signal)])
  } finally {
    clearTimeout(timer)
    options.signal?.removeEventListener('abort', outer)
  }
}

/** Never resolves; rejects with the signal's reason once it aborts. */
export function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason as Error)
    else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
  })
}

/** Waits, or rejects with the signal's reason. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error)
    const timer = setTimeout(done, ms)
    function done() {
      signal?.removeEventListener('abort', aborted)
      resolve()
    }
    function aborted() {
      clearTimeout(timer)
      reject(signal?.reason as Error)
    }
    signal?.addEventListener('abort', aborted, { once: true })
  })
}
