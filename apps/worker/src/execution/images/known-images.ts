import type { ContainerEngine, ImageInfo } from '../../engine/engine.js'
import { type Releasable, sleep } from '../../support/lifecycle.js'

const RETRY_MS = 1000
const MAX_KNOWN = 1000

/**
 * What images are, remembered for as long as the engine tells of each change: to ask takes it several milliseconds, on every
 * task's way. While it does not tell, each question goes to the engine.
 */
export class KnownImages implements Releasable {
  readonly #engine: ContainerEngine
  readonly #known = new Map<string, ImageInfo>()
  readonly #stop = new AbortController()
  readonly #watching: Promise<void>
  #isTold = false
  /** Counts what was told; an answer to a question from before that may be old. */
  #changes = 0

  constructor(engine: ContainerEngine) {
    this.#engine = engine
    this.#watching = this.#watch()
  }

  /** As the engine's. */
  async image(reference: string): Promise<ImageInfo | null> {
    const known = this.#known.get(reference)
    if (known) return known
    const changes = this.#changes
    const info = await this.#engine.image(reference)
    const isCurrent = this.#isTold && changes === this.#changes
    if (info && isCurrent && this.#known.size < MAX_KNOWN) this.#known.set(reference, info)
    return info
  }

  /** Something has changed that may not have been told yet. */
  forget(): void {
    this.#changes += 1
    this.#known.clear()
  }

  async release(): Promise<void> {
    this.#stop.abort()
    await this.#watching
  }

  async #watch(): Promise<void> {
    const { signal } = this.#stop
    const watching = {
      signal,
      onListening: () => {
        this.#isTold = true
      },
      onChange: () => this.forget(),
    }
    while (!signal.aborted) {
      // Whatever ended it: it is begun anew.
      await this.#engine.watchImages(watching).catch(() => undefined)
      this.#isTold = false
      this.forget()
      await sleep(RETRY_MS, signal).catch(() => undefined)
    }
  }
}
