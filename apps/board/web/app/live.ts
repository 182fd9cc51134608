import type { Containers, Overview } from '../../src/api.js'
import { type Fleet, fleetAfter, withoutGone } from '../lib/fleet.js'
import { Store } from '../lib/store.js'
import { listen } from './stream.js'

/** What the server tells all the time; null until it did. */
export const overview = new Store<Overview | null>(null)
export const fleet = new Store<Fleet | null>(null)

/** Follows the stream that all pages share. @returns what ends it */
export function follow(): () => void {
  const sweep = setInterval(() => fleet.value && fleet.set(withoutGone(fleet.value, Date.now())), 500)
  const close = listen({
    path: () => 'stream',
    on: {
      overview: data => overview.set(data as Overview),
      containers: data =>
        fleet.set(fleetAfter(fleet.value ?? new Map(), (data as Containers).containers, Date.now())),
    },
  })
  return () => {
    clearInterval(sweep)
    close()
    overview.set(null)
    fleet.set(null)
  }
}
