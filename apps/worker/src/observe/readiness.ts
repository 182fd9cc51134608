import { messageOf } from '../support/log.js'

/** Why a worker can't take tasks now, of one of the things that it needs. */
export interface Unready {
  readonly check: 'state' | 'redis' | 'engine' | 'disk'
  readonly reason: string
}

export interface ReadinessOptions {
  readonly state: () => 'starting' | 'running' | 'draining'
  /** Reject when it does not answer. */
  readonly redis: () => Promise<unknown>
  readonly engine: () => Promise<unknown>
  readonly disk: () => Promise<{ freeBytes: number; floorBytes: number }>
}

/** How long one of them may take to answer, in milliseconds: less than any prober waits. */
const ANSWER_MS = 1000

/** Asks everything that a worker needs, all at once. */
export class Readiness {
  readonly #options: ReadinessOptions
  readonly #asked = new Map<string, Promise<unknown>>()

  constructor(options: ReadinessOptions) {
    this.#options = options
  }

  /** @returns nothing when the worker can take tasks */
  async problems(): Promise<Unready[]> {
    const { state, redis, engine, disk } = this.#options
    const found = await Promise.all([
      this.#ask('redis', redis),
      this.#ask('engine', engine),
      this.#ask('disk', async () => checkFloor(await disk())),
    ])
    const now = state()
    const own: Unready[] = now === 'running' ? [] : [{ check: 'state', reason: STATES[now] }]
    return [...own, ...found.flatMap(one => one ?? [])]
  }

  /** What does not answer is asked once, however often it is asked for: nothing piles up behind it. */
  async #ask(check: Unready['check'], work: () => Promise<unknown>): Promise<Unready | null> {
    const asked = this.#asked.get(check) ?? work()
    this.#asked.set(check, asked)
    const forget = () => void this.#asked.delete(check)
    asked.then(forget, forget)
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<string>(resolve => {
      timer = setTimeout(() => resolve(`no answer within ${ANSWER_MS} ms`), ANSWER_MS)
    })
    const reason = await Promise.race([asked.then(() => null, messageOf), late])
    clearTimeout(timer)
    return reason === null ? null : { check, reason }
  }
}

const STATES = {
  starting: 'the worker is not ready yet',
  draining: 'the worker is to stop and takes no more tasks',
} as const

/** @throws Error that says what is short */
function checkFloor({ freeBytes, floorBytes }: { freeBytes: number; floorBytes: number }): void {
  if (freeBytes >= floorBytes) return
  throw new Error(`${freeBytes} bytes are free, and AGIRUNNER_DISK_FLOOR is ${floorBytes}`)
}
