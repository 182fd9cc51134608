import { monotonicMs } from '../support/lifecycle.js'
import type { Activity } from './usage.js'

/** Timers and keep-alives are no work: what stays below these in a second counts as nothing. */
const WINDOW_MS = 1000
/** One hundredth of a core. */
const CPU_SHARE = 0.01
/** A few packets, such as others' questions for an address on the same bridge. */
const NETWORK_BYTES = 512

/**
 * Watches for a task that does nothing: prints nothing, uses next to no CPU, reads and writes no disk, and sends and
 * receives next to nothing. What can't be told counts as activity.
 */
export class IdleWatch {
  readonly #idleMs: number
  readonly #windowMs: number
  readonly #onIdle: () => void
  #last: { readonly activity: Activity; readonly at: number } | null = null
  #activeAt: number

  constructor(idleMs: number, onIdle: () => void, now = monotonicMs()) {
    this.#idleMs = idleMs
    this.#windowMs = Math.min(WINDOW_MS, idleMs / 2)
    this.#onIdle = onIdle
    this.#activeAt = now
  }

  look(activity: Activity, now = monotonicMs()): void {
    if (this.#last === null) this.#last = { activity, at: now }
    const passed = now - this.#last.at
    if (this.#last.activity.logBytes !== activity.logBytes) this.#activeAt = now
    if (passed >= this.#windowMs) {
      if (isActive(this.#last.activity, activity, passed)) this.#activeAt = now
      this.#last = { activity, at: now }
    }
    if (now - this.#activeAt >= this.#idleMs) this.#onIdle()
  }
}

function isActive(before: Activity, now: Activity, passedMs: number): boolean {
  const grown = (key: 'cpuNs' | 'ioOperations' | 'networkBytes') =>
    before[key] === null || now[key] === null ? null : now[key] - before[key]
  const [cpu, io, network] = [grown('cpuNs'), grown('ioOperations'), grown('networkBytes')]
  if (cpu === null || cpu >= passedMs * 1e6 * CPU_SHARE) return true
  return (
    (io ?? 0) > 0 ||
    (network ?? 0) >= NETWORK_BYTES * (passedMs / WINDOW_MS) ||
    now.logBytes !== before.logBytes
  )
}
