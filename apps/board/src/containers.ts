import { setTimeout as sleep } from 'node:timers/promises'
import type { LiveContainer } from '@agirunner/contracts'
import type { Containers } from './api.js'
import { Refusal } from './errors.js'
import type { Live } from './live.js'

/** The workers are asked for so long after the last one has looked, in milliseconds. */
const LINGER_MS = 5000
/** How long the first answer of the workers may take, in milliseconds. */
const FIRST_MS = 3000
/** The pause after the watching failed, in milliseconds. */
const RETRY_MS = 1000

interface Watching {
  readonly end: AbortController
  /** Settles with the first answer. */
  readonly first: Promise<void>
}

/** Watches the containers of all workers while somebody looks, once for all who do. */
export class ContainerWatch {
  readonly #live: Live
  #watch: Watching | null = null
  #latest: Containers | null = null
  #linger: NodeJS.Timeout | null = null
  #lookers = 0

  constructor(live: Live) {
    this.#live = live
  }

  /** What is known now. @throws Refusal 503 when nothing is, within a few seconds */
  async read(): Promise<Containers> {
    const leave = this.look()
    try {
      await Promise.race([this.#watch?.first, sleep(FIRST_MS, undefined, { ref: false })])
      if (!this.#latest)
        throw new Refusal(503, 'nobody tells of the containers; try again, or look after Redis')
      return { ...this.#latest, at: new Date().toISOString() }
    } finally {
      leave()
    }
  }

  /** The latest, null while there is none. */
  get latest(): Containers | null {
    return this.#latest
  }

  /** Has the containers watched until what is returned is called. */
  look(): () => void {
    this.#lookers += 1
    if (this.#linger) clearTimeout(this.#linger)
    this.#watch ??= this.#begin()
    return () => {
      this.#lookers -= 1
      if (this.#lookers === 0) this.#linger = setTimeout(() => this.stop(), LINGER_MS).unref()
    }
  }

  stop(): void {
    this.#watch?.end.abort()
    this.#watch = null
    this.#latest = null
  }

  #begin(): Watching {
    const end = new AbortController()
    const first = new Promise<void>(resolve => void this.#run(end.signal, resolve))
    return { end, first }
  }

  async #run(signal: AbortSignal, onFirst: () => void): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const containers of this.#live.watchContainers({ signal })) {
          if (signal.aborted) return
          this.#set(containers)
          onFirst()
        }
      } catch {
        // Redis is away; it may come back.
        this.#latest = null
      }
      if (!signal.aborted) await sleep(RETRY_MS, undefined, { ref: false })
    }
  }

  #set(containers: readonly LiveContainer[]): void {
    this.#latest = { at: new Date().toISOString(), containers }
  }
}
