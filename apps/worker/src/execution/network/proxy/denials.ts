import type { TaskResult } from '@agirunner/contracts'

export type Denied = TaskResult['egressDenied'][number]

/** A task may try any number of places: so many are told apart, the rest is counted as `*`, port 0. */
export const MAX_DENIED = 100
const OTHERS = { host: '*', port: 0 }

/** Counts what one task was refused, in bounded memory. */
export class Denials {
  readonly #counts = new Map<string, { host: string; port: number; count: number }>()

  /** @returns whether this place was not refused before: then it is worth an event */
  add(host: string, port: number): boolean {
    const full = this.#counts.size >= MAX_DENIED
    const known = this.#counts.get(keyOf(host, port)) ?? (full ? this.#counts.get(keyOf('*', 0)) : undefined)
    if (known) {
      known.count += 1
      return false
    }
    const place = full ? OTHERS : { host, port }
    this.#counts.set(keyOf(place.host, place.port), { ...place, count: 1 })
    return true
  }

  list(): Denied[] {
    return [...this.#counts.values()].map(one => ({ ...one }))
  }
}

function keyOf(host: string, port: number): string {
  return `${host} ${port}`
}
