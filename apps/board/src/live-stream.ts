import { setTimeout as sleep } from 'node:timers/promises'
import type { Containers, Overview } from './api.js'
import type { ContainerWatch } from './containers.js'
import type { EventStream } from './event-stream.js'
import { redact } from './redact.js'

const EVERY_MS = 1000

export interface LiveSources {
  readonly overview: () => Promise<Overview>
  readonly containers: ContainerWatch
}

/** Sends the overview and the containers whenever they changed, the latest only: who reads slowly misses some between. */
export async function streamLive({ overview, containers }: LiveSources, stream: EventStream): Promise<void> {
  const leave = containers.look()
  const sendOverview = changesOf<Overview>('overview', stream)
  const sendContainers = changesOf<Containers>('containers', stream)
  try {
    while (!stream.signal.aborted) {
      // While Redis is away nothing is known, and what is shown grows old; the page sees that by its time.
      await sendOverview(await overview().catch(() => null))
      await sendContainers(containers.latest)
      await sleep(EVERY_MS, undefined, { signal: stream.signal })
    }
  } catch (error) {
    if (!stream.signal.aborted) throw error
  } finally {
    leave()
    stream.close()
  }
}

function changesOf<T extends { readonly at: string }>(event: string, stream: EventStream) {
  let sent = ''
  return async (value: T | null): Promise<void> => {
    if (value === null) return
    const shown = shownOf(value)
    if (shown.content === sent) return
    sent = shown.content
    await stream.send(event, shown.json)
  }
}

/** Made once for all streams: at hundreds of containers this is most of the work. */
const shownBefore = new WeakMap<object, { readonly json: string; readonly content: string }>()

function shownOf(value: { readonly at: string }): { readonly json: string; readonly content: string } {
  const before = shownBefore.get(value)
  if (before) return before
  const shown = redact(value) as { readonly at: string }
  const made = { json: JSON.stringify(shown), content: JSON.stringify({ ...shown, at: '' }) }
  shownBefore.set(value, made)
  return made
}
