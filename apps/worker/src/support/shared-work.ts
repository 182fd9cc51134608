/** What whoever takes part in a piece of work brings along. */
export interface Share {
  /** Ends this one's waiting; the work itself ends when nobody waits any more. */
  readonly signal: AbortSignal
  readonly progress: (data: Record<string, unknown>) => void
}

type Work<T> = (share: Share) => Promise<T>

interface Flight<T> {
  readonly controller: AbortController
  readonly listeners: Set<Share['progress']>
  readonly done: Promise<T>
}

/** Lets callers that want the same thing at the same time share one piece of work. */
export class SharedWork<T> {
  readonly #flights = new Map<string, Flight<T>>()
  readonly #next = new Map<string, Flight<T>>()

  /** Joins the work under way for `key`, or starts it. @throws what the work throws; the signal's reason */
  async join(key: string, work: Work<T>, share: Share): Promise<T> {
    share.signal.throwIfAborted()
    return await takePart(this.#flights.get(key) ?? this.#launch(this.#flights, key, work), share)
  }

  /**
   * The same for an answer that must not be older than the question: joins only work that has not begun yet. So a
   * thousand callers at once cost two rounds, and none gets what was true before it asked.
   */
  async ask(key: string, work: Work<T>, share: Share): Promise<T> {
    share.signal.throwIfAborted()
    const current = this.#flights.get(key)
    if (!current) return await this.join(key, work, share)
    const afterwards: Work<T> = async inner => {
      await current.done.catch(() => undefined)
      inner.signal.throwIfAborted()
      const flight = this.#next.get(key)
      if (flight) {
        this.#next.delete(key)
        this.#flights.set(key, flight)
      }
      return await work(inner)
    }
    return await takePart(this.#next.get(key) ?? this.#launch(this.#next, key, afterwards), share)
  }

  #launch(flights: Map<string, Flight<T>>, key: string, work: Work<T>): Flight<T> {
    const controller = new AbortController()
    const listeners: Flight<T>['listeners'] = new Set()
    const progress: Share['progress'] = data => {
      for (const listener of listeners) listener(data)
    }
    const end = () => {
      for (const map of [this.#flights, this.#next])
        if (map.get(key)?.controller === controller) map.delete(key)
    }
    // Nobody may join what was given up.
    controller.signal.addEventListener('abort', end, { once: true })
    const done = work({ signal: controller.signal, progress }).finally(end)
    done.catch(() => undefined)
    const flight = { controller, listeners, done }
    flights.set(key, flight)
    return flight
  }
}

async function takePart<T>(flight: Flight<T>, { signal, progress }: Share): Promise<T> {
  // One entry for each caller, also where two bring the same function.
  const listener: Share['progress'] = data => progress(data)
  flight.listeners.add(listener)
  try {
    return await untilAborted(flight.done, signal)
  } finally {
    flight.listeners.delete(listener)
    if (flight.listeners.size === 0) flight.controller.abort(signal.reason)
  }
}

/** Waits for `work`, but no longer than until the signal aborts. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let aborted: () => void = () => undefined
  const abort = new Promise<never>((_resolve, reject) => {
    aborted = () => reject(signal.reason as Error)
    signal.addEventListener('abort', aborted, { once: true })
  })
  try {
    return await Promise.race([work, abort])
  } finally {
    signal.removeEventListener('abort', aborted)
  }
}
