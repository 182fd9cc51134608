import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type FailureCode, type Phase, TaskFailure } from '@agirunner/contracts'
import { CHILD_ENV } from '../../support/program.js'
import type { AnswerMessage, JobMessage } from './protocol.js'
import type { Progress } from './serve.js'

export interface PoolOptions {
  /** The child's program; it calls `serveJobs`. */
  readonly module: URL
  /** How many children may work at the same time. */
  readonly size: number
  /** V8's heap per child; buffers are not in it. */
  readonly heapMiB: number
  /** A child that holds more memory than this is killed. */
  readonly rssBytes: number
  /** Starts each child in a mount namespace of its own: what it mounts is seen by nobody and ends with it. */
  readonly privateMounts: boolean
  readonly phase: Phase
  /** What it means for a job when its child took too long, held too much memory, or died. */
  readonly failures: { readonly late: FailureCode; readonly large: FailureCode; readonly died: FailureCode }
}

export interface RunOptions {
  readonly signal: AbortSignal
  readonly deadlineMs: number
  readonly progress?: Progress
}

const WATCH_MS = 100
const PAGE_BYTES = 4096
/** How V8 ends a process whose heap is full. */
const ABORTED = 'SIGABRT'

interface Child {
  readonly process: ChildProcess
  /** Why the pool killed it; null while it has not. */
  killed: TaskFailure | null
}

/**
 * A few child processes for work that blocks, or that a hostile repository can make huge. One job per child at a
 * time; a child that passes a limit or whose job is canceled is killed and replaced. One is always kept warm.
 */
export class ChildPool {
  readonly #options: PoolOptions
  readonly #idle: Child[] = []
  readonly #all = new Set<Child>()
  readonly #waiting: ((child: Child) => void)[] = []
  #jobs = 0
  #closed = false

  constructor(options: PoolOptions) {
    this.#options = options
    this.#keepOneWarm()
  }

  /**
   * Runs one job in a child.
   *
   * @throws TaskFailure as the job threw it, or the pool's codes; the signal's reason when that aborted
   */
  async run<T>(name: string, input: unknown, options: RunOptions): Promise<T> {
    const child = await this.#take(options.signal)
    try {
      return (await this.#ask(child, { id: ++this.#jobs, name, input }, options)) as T
    } finally {
      this.#giveBack(child)
    }
  }

  /** Kills every child; jobs under way fail. */
  async close(): Promise<void> {
    this.#closed = true
    const alive = [...this.#all].filter(
      ({ process: child }) => child.exitCode === null && child.signalCode === null,
    )
    const ends = alive.map(({ process: child }) => new Promise(resolve => child.once('exit', resolve)))
    for (const child of this.#all) child.process.kill('SIGKILL')
    await Promise.all(ends)
  }

  #start(): Child {
    const { module, heapMiB, privateMounts } = this.#options
    const node = [`--max-old-space-size=${heapMiB}`, '--enable-source-maps']
    const program = privateMounts
      ? { execPath: 'unshare', execArgv: ['--mount', '--propagation', 'slave', process.execPath, ...node] }
      : { execArgv: node }
    const stdio = ['ignore', 'ignore', 'ignore', 'ipc'] as const
    const child: Child = {
      process: fork(fileURLToPath(module), [], { ...program, env: CHILD_ENV, stdio: [...stdio] }),
      killed: null,
    }
    child.process.on('error', () => undefined)
    child.process.once('exit', () => this.#forget(child))
    this.#all.add(child)
    return child
  }

  #forget(child: Child): void {
    this.#all.delete(child)
    const at = this.#idle.indexOf(child)
    if (at >= 0) this.#idle.splice(at, 1)
  }

  #keepOneWarm(): void {
    if (!this.#closed && this.#idle.length === 0 && this.#all.size < this.#options.size)
      this.#rest(this.#start())
  }

  /** An idle child keeps no process alive: neither a test's nor a worker's that is ending. */
  #rest(child: Child): void {
    child.process.unref()
    child.process.channel?.unref()
    this.#idle.push(child)
  }

  async #take(signal: AbortSignal): Promise<Child> {
    signal.throwIfAborted()
    if (this.#closed) throw this.#died('it is closed')
    const child =
      this.#idle.pop() ?? (this.#all.size < this.#options.size ? this.#start() : await this.#wait(signal))
    child.process.ref()
    child.process.channel?.ref()
    this.#keepOneWarm()
    return child
  }

  #wait(signal: AbortSignal): Promise<Child> {
    return new Promise((resolve, reject) => {
      const aborted = () => {
        const at = this.#waiting.indexOf(taken)
        if (at >= 0) this.#waiting.splice(at, 1)
        reject(signal.reason as Error)
      }
      const taken = (child: Child) => {
        signal.removeEventListener('abort', aborted)
        resolve(child)
      }
      signal.addEventListener('abort', aborted, { once: true })
      this.#waiting.push(taken)
    })
  }

  #giveBack(child: Child): void {
    const alive = child.killed === null && child.process.connected
    if (!alive) this.#forget(child)
    const next = this.#waiting.shift()
    if (next) next(alive ? child : this.#start())
    else if (alive) this.#rest(child)
    else this.#keepOneWarm()
  }

  /** Sends the job and settles with its answer, or with what befell the child. */
  #ask(child: Child, job: JobMessage, options: RunOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const { process: running } = child
      const kill = (reason: TaskFailure) => {
        child.killed = reason
        running.kill('SIGKILL')
      }
      const settle = (end: () => void) => {
        clearInterval(watch)
        clearTimeout(deadline)
        options.signal.removeEventListener('abort', aborted)
        running.off('message', heard)
        running.off('exit', exited)
        running.off('error', exited)
        end()
      }
      const heard = (answer: AnswerMessage) => {
        if (answer.id !== job.id) return
        if (answer.type === 'progress') options.progress?.(answer.data)
        else if (answer.type === 'done') settle(() => resolve(answer.result))
        else settle(() => reject(this.#toFailure(answer)))
      }
      const exited = () => settle(() => reject(child.killed ?? this.#endOf(running)))
      const aborted = () => {
        kill(this.#died('it was canceled'))
        settle(() => reject(options.signal.reason as Error))
      }
      const deadline = setTimeout(() => kill(this.#late(options.deadlineMs)), options.deadlineMs)
      const watch = setInterval(() => {
        if (residentBytes(running.pid) > this.#options.rssBytes) kill(this.#large())
      }, WATCH_MS)
      running.on('message', heard)
      running.once('exit', exited)
      running.once('error', exited)
      options.signal.addEventListener('abort', aborted, { once: true })
      // An error of sending is an exit that was not seen yet.
      running.send(job, error => error && exited())
    })
  }

  #toFailure(answer: Exclude<AnswerMessage, { type: 'progress' | 'done' }>): TaskFailure {
    if (answer.type === 'crashed') return this.#died(answer.message)
    const { code, message, hint } = answer.failure
    return new TaskFailure(code, message, { phase: this.#options.phase, hint })
  }

  #endOf(child: ChildProcess): TaskFailure {
    return child.signalCode === ABORTED
      ? this.#large()
      : this.#died(`it ended with ${child.signalCode ?? child.exitCode}`)
  }

  #late(ms: number): TaskFailure {
    return this.#failure('late', `it took longer than ${ms / 1000} s`)
  }

  #large(): TaskFailure {
    return this.#failure(
      'large',
      `it needs more memory than the ${Math.round(this.#options.rssBytes / 2 ** 20)} MiB allowed`,
    )
  }

  #died(why: string): TaskFailure {
    return this.#failure('died', why)
  }

  #failure(kind: keyof PoolOptions['failures'], why: string): TaskFailure {
    const { phase, failures } = this.#options
    const what = phase === 'capture' ? 'reading the changes' : 'reading the repository'
    return new TaskFailure(failures[kind], `${what} failed; ${why}`, { phase })
  }
}

/** The memory that a process holds, in bytes; 0 when it is gone. */
function residentBytes(pid: number | undefined): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * PAGE_BYTES
  } catch {
    return 0
  }
}
