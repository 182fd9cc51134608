import { Store } from '../lib/store.js'
import { findSession, session } from './api.js'

export type Connection = 'connecting' | 'live' | 'reconnecting'
/** How the page's streams are doing, all of them together. */
export const connection = new Store<Connection>('connecting')
const states = new Map<symbol, Connection>()

const FIRST_WAIT_MS = 500
const LONGEST_WAIT_MS = 15_000

interface StreamOptions {
  /** Below `api/`; asked for again each time, so that a stream goes on after what it brought already. */
  readonly path: () => string
  readonly on: Readonly<Record<string, (data: unknown) => void>>
}

/**
 * Listens to server-sent events. The browser's own retries give up at an answer that is an error, and know of no session that
 * ended: so each break is handled here, with growing pauses.
 *
 * @returns what closes it
 */
export function listen({ path, on }: StreamOptions): () => void {
  const id = Symbol(path())
  let source: EventSource | null = null
  let timer: ReturnType<typeof setTimeout> | undefined
  let wait = FIRST_WAIT_MS
  let closed = false

  const open = () => {
    source = new EventSource(new URL(`api/${path()}`, document.baseURI))
    source.onopen = () => {
      wait = FIRST_WAIT_MS
      tell(id, 'live')
    }
    source.onerror = retry
    for (const [name, take] of Object.entries(on))
      source.addEventListener(name, event =>
        take(JSON.parse(String((event as MessageEvent).data)) as unknown),
      )
  }
  const retry = () => {
    source?.close()
    if (closed) return
    tell(id, 'reconnecting')
    // An EventSource does not say what it was refused with.
    findSession().catch(() => undefined)
    timer = setTimeout(() => session.value !== null && !closed && open(), wait)
    wait = Math.min(wait * 2, LONGEST_WAIT_MS)
  }
  const close = () => {
    closed = true
    clearTimeout(timer)
    source?.close()
    tell(id, null)
  }
  tell(id, 'connecting')
  open()
  return close
}

function tell(id: symbol, state: Connection | null): void {
  if (state === null) states.delete(id)
  else states.set(id, state)
  const all = [...states.values()]
  const worst = all.includes('reconnecting')
    ? 'reconnecting'
    : all.includes('connecting')
      ? 'connecting'
      : 'live'
  if (all.length > 0) connection.set(worst)
}
