import { stopwatch } from './contender.js'

/** How often something is measured: so many rounds, and no new one once the time is over. */
export interface Rounds {
  readonly most: number
  readonly seconds: number
}

/** @returns the numbers of the rounds from 0, the one that warms up; at least one more follows it, whatever the time */
export function* roundsOf({ most, seconds }: Rounds): Generator<number> {
  const elapsed = stopwatch()
  for (let round = 0; round <= most; round += 1) {
    if (round > 1 && elapsed() > seconds * 1000) return
    yield round
  }
}

/** The same, another one first each time: what changes on the machine meanwhile meets all of them alike. */
export function rotated<T>(items: readonly T[], by: number): readonly T[] {
  const start = by % items.length
  return [...items.slice(start), ...items.slice(0, start)]
}
