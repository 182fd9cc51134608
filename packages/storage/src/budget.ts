/** Bytes of memory that several transfers share: who comes first is served first, and nobody passes by. */
export class Budget {
  #free: number
  readonly #total: number
  readonly #waiting: { bytes: number; go: () => void }[] = []

  constructor(total: number) {
    this.#total = total
    this.#free = total
  }

  /** Runs `work` once so many bytes are free; what is larger than the whole budget gets all of it. */
  async with<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    const taken = Math.min(bytes, this.#total)
    await this.#take(taken)
    try {
      return await work()
    } finally {
      this.#free += taken
      this.#serve()
    }
  }

  #take(bytes: number): Promise<void> {
    return new Promise(go => {
      this.#waiting.push({ bytes, go })
      this.#serve()
    })
  }

  #serve(): void {
    for (let first = this.#waiting[0]; first && first.bytes <= this.#free; first = this.#waiting[0]) {
      this.#waiting.shift()
      this.#free -= first.bytes
      first.go()
    }
  }
}
