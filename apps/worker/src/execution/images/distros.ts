import type { ContainerEngine } from '../../engine/engine.js'
import type { Releasable } from '../../support/lifecycle.js'
import { type Log, messageOf } from '../../support/log.js'
import type { Verification } from './verification.js'

export interface DistrosOptions {
  readonly engine: ContainerEngine
  readonly verification: Verification
  readonly log: Log
}

/**
 * Of which distribution images are, for whoever looks at containers. What nobody knows yet is found out by running a container
 * of the image, once for each, one after another: whoever asks waits for none of it.
 */
export class Distros implements Releasable {
  readonly #options: DistrosOptions
  readonly #tried = new Set<string>()
  readonly #closing = new AbortController()
  #asking: Promise<void> = Promise.resolve()

  constructor(options: DistrosOptions) {
    this.#options = options
  }

  /** Null where it is not known, or not yet. Never rejects. */
  async of(imageId: string): Promise<string | null> {
    const known = await this.#options.verification.knownDistro(imageId)
    if (known === null && !this.#tried.has(imageId) && !this.#closing.signal.aborted) {
      this.#tried.add(imageId)
      this.#asking = this.#asking.then(() => this.#find(imageId))
    }
    return known
  }

  async release(): Promise<void> {
    this.#closing.abort()
    await this.#asking
  }

  async #find(imageId: string): Promise<void> {
    const { engine, verification, log } = this.#options
    try {
      const image = await engine.image(imageId)
      if (image !== null) await verification.facts(image, this.#closing.signal)
    } catch (error) {
      log.debug('the distribution of an image was not found out', { imageId, reason: messageOf(error) })
    }
  }
}
