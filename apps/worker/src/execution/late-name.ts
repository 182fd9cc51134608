/**
 * Nobody waits for a container's name but a person who looks at the engine, and who is not that quick. The engine writes it
 * down to its disk, and tells nothing of the container meanwhile: a short task's end waited 40 ms for it.
 */
const LATE_MS = 200

/** Renames a container that has waited, unless its task has ended by then. */
export class LateName {
  readonly #timer: NodeJS.Timeout
  #renaming: Promise<void> = Promise.resolve()

  constructor(rename: () => Promise<void>) {
    this.#timer = setTimeout(() => {
      // It is for people alone: a container is found by its labels and its id.
      this.#renaming = rename().catch(() => undefined)
    }, LATE_MS)
  }

  /** What has not begun is left. */
  giveUp(): void {
    clearTimeout(this.#timer)
  }

  /** Resolves when nothing of it is under way or to come. */
  async settled(): Promise<void> {
    this.giveUp()
    await this.#renaming
  }
}
