/**
 * What asks `up` to stop: Ctrl-C, SIGTERM, or the end of whoever started it over IPC. The first request drains, the
 * second gives running tasks back at once, the third ends the worker the hard way.
 */
export class StopRequests {
  readonly #first = new AbortController()
  readonly #again: (count: number) => void
  readonly #onSignal = () => this.#request()
  #count = 0

  /** @param again is called for every request after the first, with how many there were */
  constructor(again: (count: number) => void) {
    this.#again = again
    process.on('SIGINT', this.#onSignal)
    process.on('SIGTERM', this.#onSignal)
    if (process.send) process.on('disconnect', this.#onSignal)
  }

  /** Aborted by the first request. */
  get signal(): AbortSignal {
    return this.#first.signal
  }

  /** Resolves with the first request. */
  get requested(): Promise<void> {
    const { signal } = this.#first
    return new Promise(resolve => {
      if (signal.aborted) resolve()
      signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  close(): void {
    process.off('SIGINT', this.#onSignal)
    process.off('SIGTERM', this.#onSignal)
    process.off('disconnect', this.#onSignal)
  }

  #request(): void {
    this.#count += 1
    if (this.#count === 1) this.#first.abort()
    else this.#again(this.#count)
  }
}
