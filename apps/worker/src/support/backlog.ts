/**
 * Work that is owed and that nobody waits for, up to a bound: who adds more than that waits until some of it is done, so
 * that what is owed never grows.
 */
export class Backlog {
  readonly #max: number
  readonly #owed = new Set<Promise<void>>()

  constructor(max: number) {
    this.#max = max
  }

  /** @param work must not reject */
  async add(work: () => Promise<void>): Promise<void> {
    const owed = work().finally(() => this.#owed.delete(owed))
    this.#owed.add(owed)
    while (this.#owed.size > this.#max) await Promise.race(this.#owed)
  }

  /** Resolves when nothing is owed any more. */
  async settled(): Promise<void> {
    while (this.#owed.size > 0) await Promise.all(this.#owed)
  }
}
