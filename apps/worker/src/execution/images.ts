import { TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine, ImageInfo } from '../engine/engine.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { rejectOnAbort } from '../support/lifecycle.js'

/** Names that a task may use instead of a reference. */
export const CATALOG: Readonly<Record<string, string>> = { 'debian-base': 'agirunner/debian-base:1' }

export interface ReadyImage {
  readonly reference: string
  readonly info: ImageInfo
}

/** Makes sure that images are on the engine's machine; each is pulled once, however many tasks ask for it. */
export class Images {
  readonly #engine: ContainerEngine
  readonly #pulls = new Map<string, Promise<void>>()

  constructor(engine: ContainerEngine) {
    this.#engine = engine
  }

  /** @throws TaskFailure with an `image.*` code */
  async ready(
    accepted: AcceptedTask,
    progress: (data: Record<string, unknown>) => void,
    signal: AbortSignal,
  ): Promise<ReadyImage> {
    const { image, pullPolicy } = accepted.task.environment
    const reference = CATALOG[image] ?? image
    const known = pullPolicy === 'always' ? null : await this.#engine.image(reference)
    if (known) return { reference, info: known }
    if (pullPolicy === 'never') {
      throw new TaskFailure(
        'image.not_found',
        `image "${image}" is not on this machine and pullPolicy is "never"`,
      )
    }
    await this.#pull(reference, progress, signal)
    const pulled = await this.#engine.image(reference)
    if (pulled) return { reference, info: pulled }
    throw new TaskFailure('image.pull_failed', `image "${image}" was pulled, but the engine does not know it`)
  }

  async #pull(
    reference: string,
    progress: (data: Record<string, unknown>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    let pull = this.#pulls.get(reference)
    if (!pull) {
      // Shared by all who ask: one task's cancel must not break it for the others, so it has a deadline of its own.
      pull = this.#engine.pull(reference, {
        credentials: null,
        progress,
        signal: AbortSignal.timeout(PULL_MS),
      })
      this.#pulls.set(reference, pull)
      pull.catch(() => undefined).finally(() => this.#pulls.delete(reference))
    }
    await Promise.race([pull, rejectOnAbort(signal)])
  }
}

/** The operator's deadline for one pull, in milliseconds. */
const PULL_MS = 15 * 60_000
