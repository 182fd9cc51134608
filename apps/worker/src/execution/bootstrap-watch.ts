import { type FSWatcher, watch } from 'node:fs'
import { join } from 'node:path'
import { monotonicMs } from '../support/lifecycle.js'
import { readMarks } from './marks.js'

/** Changes of the marks are told by the kernel; this is for where it can't, or where the task put another file there. */
const POLL_MS = 250
/** A timer holds at most so many milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** The commands that run before the task's own, and the operator's deadline for all of them together. */
export interface Bootstrap {
  readonly commands: number
  readonly deadlineMs: number
}

/** A container that has run before anybody of this process watched it. */
export interface Adopted {
  /** When the time that counts began, on the monotonic clock. */
  readonly since: number
  /** Whether it still ran when it was taken over: time that is up by now is no cause of an end that came before. */
  readonly running: boolean
}

export interface TaskClockOptions {
  /** What the task's own commands may take. */
  readonly timeoutMs: number
  /** Null when there is none: the task's time begins at once. */
  readonly bootstrap: Bootstrap | null
  /** The slot's log folder. */
  readonly marksFolder: string
  /** Of a container that another worker started; null for one that starts now. */
  readonly adopted?: Adopted | null
  readonly onLate: () => void
  /** The task's first command has begun; called once, and not where there is no bootstrap. */
  readonly onTask: () => void
}

/**
 * Counts a container's time: first what the bootstrap may take, then, from the task's first command on, what the task
 * may. Where that begins the gate's marks tell. The container's own processes can write them too, but gain nothing by it:
 * a mark that comes early ends the one time and begins the other.
 */
export class TaskClock {
  readonly #options: TaskClockOptions
  readonly #watcher: FSWatcher | null
  readonly #poll: NodeJS.Timeout | undefined
  #during: 'bootstrap' | 'run'
  #since: number
  #timer: NodeJS.Timeout
  #looking = false
  #stopped = false

  constructor(options: TaskClockOptions) {
    this.#options = options
    this.#during = options.bootstrap === null ? 'run' : 'bootstrap'
    this.#since = options.adopted?.since ?? monotonicMs()
    this.#timer = options.adopted?.running === false ? setTimeout(() => undefined) : this.#arm()
    this.#watcher = options.bootstrap === null ? null : watchFile(join(options.marksFolder, 's'), this.#look)
    if (options.bootstrap !== null) this.#poll = setInterval(this.#look, POLL_MS)
  }

  /** Whose time it is. */
  get during(): 'bootstrap' | 'run' {
    return this.#during
  }

  /**
   * Whether that time was up at the container's end; a timer may fire a moment late.
   *
   * @param endedAt by the engine, in Unix milliseconds
   */
  wasLate(endedAt: number): boolean {
    const { adopted } = this.#options
    const ago = adopted && endedAt > 0 ? Math.max(0, Date.now() - endedAt) : 0
    return monotonicMs() - ago - this.#since >= this.#limitMs
  }

  /** Stops counting. @returns whose time it was in the end, after a last look at the marks */
  async stop(): Promise<'bootstrap' | 'run'> {
    clearTimeout(this.#timer)
    this.#unwatch()
    if (this.#stopped) return this.#during
    this.#stopped = true
    if (this.#during === 'bootstrap' && (await this.#hasBegun())) this.#toRun()
    return this.#during
  }

  get #limitMs(): number {
    const { bootstrap, timeoutMs } = this.#options
    return this.#during === 'bootstrap' && bootstrap !== null ? bootstrap.deadlineMs : timeoutMs
  }

  #arm(): NodeJS.Timeout {
    const leftMs = this.#since + this.#limitMs - monotonicMs()
    return setTimeout(this.#options.onLate, Math.min(Math.max(0, leftMs), MAX_TIMER_MS))
  }

  readonly #look = (): void => {
    if (this.#looking || this.#during === 'run') return
    this.#looking = true
    void this.#hasBegun().then(begun => {
      this.#looking = false
      if (!begun || this.#stopped || this.#during === 'run') return
      clearTimeout(this.#timer)
      this.#toRun()
      this.#timer = this.#arm()
    })
  }

  #toRun(): void {
    this.#during = 'run'
    this.#since = monotonicMs()
    this.#unwatch()
    this.#options.onTask()
  }

  async #hasBegun(): Promise<boolean> {
    const { marksFolder, bootstrap } = this.#options
    const { steps } = await readMarks(marksFolder)
    return steps.some(({ index }) => index >= (bootstrap?.commands ?? 0))
  }

  #unwatch(): void {
    this.#watcher?.close()
    clearInterval(this.#poll)
  }
}

function watchFile(path: string, changed: () => void): FSWatcher | null {
  try {
    return watch(path, changed).on('error', () => undefined)
  } catch {
    // The poll is enough.
    return null
  }
}
