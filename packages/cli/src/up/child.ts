import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { CliError, EXIT } from '../errors.js'
import type { Env } from '../settings.js'

/** What a child says over IPC when it is ready; the rest is its own. */
export interface ReadyMessage {
  readonly type: 'ready'
  readonly [key: string]: unknown
}

export interface ChildOptions {
  /** For messages: `worker`, `board`. */
  readonly name: string
  /** The JavaScript file to run. */
  readonly program: string
  /** What Node is given before it. */
  readonly nodeArguments?: readonly string[]
  /** Read anew for every start. */
  readonly env: () => Env
  /** Where its output goes. */
  readonly logFile: string
  readonly say: (text: string) => void
  /** Called each time it is ready, restarts included. */
  readonly onReady: (pid: number, message: ReadyMessage) => void
}

const READY_MS = 120_000
/** A child that dies again and again is started ever later, up to this, in milliseconds. */
const MAX_PAUSE_MS = 30_000
/** A child that lived this long has recovered. */
const HEALTHY_MS = 60_000
const MAX_LOG_BYTES = 64 * 1024 * 1024
const TAIL_BYTES = 2000

/**
 * A child process that is kept running: when it ends by itself it is started again. It is in a process group of its
 * own, so that a Ctrl-C in the terminal reaches only `up`, which then stops everything in order; and it has an IPC
 * channel, by which it knows when `up` is gone.
 */
export class Child {
  readonly #options: ChildOptions
  #process: ChildProcess | null = null
  #exited: Promise<void> = Promise.resolve()
  #stopping = false
  #pause: { timer: NodeJS.Timeout; skip: () => void } | null = null
  #failures = 0

  constructor(options: ChildOptions) {
    this.#options = options
  }

  /** Starts it and waits until it is ready. @throws CliError with the last lines of its log when it isn't */
  async start(signal: AbortSignal): Promise<void> {
    await this.#launch(signal)
  }

  /** Asks it to stop, and resolves when it has. */
  async stop(): Promise<void> {
    this.#stopping = true
    this.#pause?.skip()
    this.#process?.kill('SIGTERM')
    await this.#exited
  }

  /** Passes a signal on to it. */
  kill(signal: NodeJS.Signals): void {
    this.#process?.kill(signal)
  }

  #launch(signal: AbortSignal): Promise<void> {
    const { program, nodeArguments = [], env, logFile, name } = this.#options
    const output = openLog(logFile)
    const started = performance.now()
    const child = spawn(process.execPath, [...nodeArguments, program], {
      env: { ...env() },
      stdio: ['ignore', output, output, 'ipc'],
      detached: true,
    })
    closeSync(output)
    this.#process = child
    let ready = false
    return new Promise((resolve, reject) => {
      const giveUp = (why: string) => reject(notReady(name, why, logFile))
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
        giveUp(`it was not ready within ${READY_MS / 1000} s`)
      }, READY_MS)
      const onAbort = () => giveUp('it was told to stop')
      signal.addEventListener('abort', onAbort, { once: true })
      const settled = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', onAbort)
      }
      child.on('message', message => {
        if ((message as ReadyMessage).type !== 'ready') return
        ready = true
        settled()
        this.#options.onReady(child.pid ?? 0, message as ReadyMessage)
        resolve()
      })
      this.#exited = new Promise(gone => {
        const onExit = (how: string) => {
          settled()
          giveUp(how)
          this.#process = null
          gone()
          if (ready) this.#restart(how, performance.now() - started, signal)
        }
        child.once('error', error => onExit(error.message))
        child.once('exit', (code, by) => onExit(by ? `it was ended by ${by}` : `it ended with ${code}`))
      })
    })
  }

  /** Starts it again after a pause, until it runs or is told to stop. */
  #restart(how: string, livedMs: number, signal: AbortSignal): void {
    if (this.#stopping) return
    if (livedMs > HEALTHY_MS) this.#failures = 0
    const pauseMs = Math.min(1000 * 2 ** this.#failures, MAX_PAUSE_MS)
    this.#failures += 1
    const { name, say, logFile } = this.#options
    say(`the ${name} is gone (${how}); starting it again in ${pauseMs / 1000} s; its log is ${logFile}`)
    this.#exited = this.#wait(pauseMs).then(async () => {
      if (this.#stopping) return
      try {
        await this.#launch(signal)
        say(`the ${name} runs again`)
      } catch (error) {
        this.#restart((error as Error).message.split('\n')[0] ?? '', 0, signal)
      }
    })
  }

  #wait(ms: number): Promise<void> {
    return new Promise(resolve => {
      const skip = () => {
        clearTimeout(timer)
        this.#pause = null
        resolve()
      }
      const timer = setTimeout(skip, ms)
      this.#pause = { timer, skip }
    })
  }
}

/** Appends to the log of earlier runs, which is put aside when it has grown large. */
function openLog(file: string): number {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  try {
    if (statSync(file).size > MAX_LOG_BYTES) renameSync(file, `${file}.1`)
  } catch {
    // There is none yet.
  }
  return openSync(file, 'a', 0o600)
}

function notReady(name: string, why: string, logFile: string): CliError {
  const tail = tailOf(logFile)
  const message = `the ${name} did not start; ${why}; its log ${logFile} ends with the lines below`
  return new CliError(`${message}\n${tail.replace(/^/gm, '  | ')}`, EXIT.infrastructure)
}

function tailOf(file: string): string {
  try {
    const bytes = readFileSync(file)
    return bytes
      .subarray(Math.max(0, bytes.length - TAIL_BYTES))
      .toString('utf8')
      .trimEnd()
  } catch {
    return ''
  }
}
