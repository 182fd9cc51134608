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
 * Of which distribution images are, for whoever looks at containers. It is found out once for each, by running a container of
 * the image where no worker has done so yet, one after another: whoever asks waits for none of it, and hears at a later look.
 */
export class Distros implements Releasable {
  readonly #options: DistrosOptions
  /** By the id of the image; null for what is not known yet, or never will be. */
  readonly #known = new Map<string, string | null>()
  readonly #closing = new AbortController()
  #asking: Promise<void> = Promise.resolve()

  constructor(options: DistrosOptions) {
    this.#options = options
  }

  of(imageId: string): string | null {
    const known = this.#known.get(imageId)
    if (known !== undefined) return known
    this.#known.set(imageId, null)
    this.#asking = this.#asking.then(() => this.#find(imageId))
    return null
  }

  async release(): Promise<void> {
    this.#closing.abort()
    await this.#asking
  }

  async #find(imageId: string): Promise<void> {
    const { signal } = this.#closing
    if (signal.aborted) return
    const { engine, verification, log } = this.#options
    try {
      const image = await engine.image(imageId)
      if (image !== null) this.#known.set(imageId, (await verification.facts(image, signal)).distro)
    } catch (error) {
      log.debug('the distribution of an image was not found out', { imageId, reason: messageOf(error) })
    }
  }
}
