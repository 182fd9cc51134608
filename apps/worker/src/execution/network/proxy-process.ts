import { type ChildProcess, fork } from 'node:child_process'
import { TaskFailure } from '@agirunner/contracts'
import { CHILD_ENV } from '../../support/program.js'
import type { Denied } from './proxy/denials.js'
import type { EgressRules } from './proxy/policy.js'
import type { ListenInput, ProxyAnswer, ProxyCall, ProxyMessage, ProxyRequest } from './proxy/protocol.js'

/** V8's heap; a task's connections need far less. In MiB. */
const HEAP_MIB = 256
/** A proxy that does not answer for so long is as good as dead. In milliseconds. */
const CALL_MS = 10_000
/** Names are resolved on threads: a slow one must not keep others waiting. */
const PROXY_ENV = { ...CHILD_ENV, UV_THREADPOOL_SIZE: '64' }

export interface ProxyEvents {
  readonly onDenied: (network: string, place: { host: string; port: number }) => void
  /** It died: every network has lost its way out until it is listened for again. */
  readonly onDeath: (why: string) => void
}

interface Waiting {
  resolve(answer: ProxyAnswer): void
  reject(error: Error): void
}

/** The worker's side of the process in which its tasks' proxies run. */
export class ProxyProcess {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, Waiting>()
  readonly #events: ProxyEvents
  #calls = 0
  #closed = false

  constructor(events: ProxyEvents) {
    this.#events = events
    this.#child = fork(new URL('./proxy/child.js', import.meta.url), {
      env: PROXY_ENV,
      execArgv: [`--max-old-space-size=${HEAP_MIB}`],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    this.#child.on('message', (message: ProxyMessage) => this.#hear(message))
    this.#child.on('error', error => this.#die(error.message))
    this.#child.on('exit', (code, signal) => this.#die(`it ended with ${signal ?? code}`))
  }

  async rules(rules: EgressRules): Promise<void> {
    await this.#call({ call: 'rules', rules })
  }

  /** @returns the port on which the network's gateway answers */
  async listen(input: ListenInput): Promise<number> {
    return (await this.#call({ call: 'listen', ...input })) as number
  }

  async bind(network: string, hosts: readonly string[]): Promise<void> {
    await this.#call({ call: 'bind', network, hosts })
  }

  async unbind(network: string): Promise<void> {
    await this.#call({ call: 'unbind', network })
  }

  async denied(network: string): Promise<readonly Denied[]> {
    return (await this.#call({ call: 'denied', network })) as readonly Denied[]
  }

  async end(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const gone = new Promise(resolve => this.#child.once('exit', resolve))
    this.#child.kill('SIGKILL')
    await gone
  }

  #call(body: ProxyCall): Promise<ProxyAnswer> {
    this.#calls += 1
    const id = this.#calls
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(gone('it has ended'))
      const late = setTimeout(() => this.#child.kill('SIGKILL'), CALL_MS)
      const settle = () => {
        clearTimeout(late)
        this.#waiting.delete(id)
      }
      this.#waiting.set(id, {
        resolve: answer => {
          settle()
          resolve(answer)
        },
        reject: error => {
          settle()
          reject(error)
        },
      })
      const request: ProxyRequest = { id, body }
      this.#child.send(request, error => {
        if (error) this.#waiting.get(id)?.reject(gone(error.message))
      })
    })
  }

  #hear(message: ProxyMessage): void {
    if (message.type === 'denied') return this.#events.onDenied(message.network, message)
    const waiting = this.#waiting.get(message.id)
    if (message.type === 'done') waiting?.resolve(message.answer)
    else waiting?.reject(gone(message.message))
  }

  #die(why: string): void {
    const expected = this.#closed
    this.#closed = true
    for (const waiting of this.#waiting.values()) waiting.reject(gone(why))
    if (!expected) this.#events.onDeath(why)
  }
}

/** Before a task runs this is nobody's fault but the machinery's, and the attempt is free. */
function gone(why: string): TaskFailure {
  return new TaskFailure('container.create_failed', `the proxy of the task's network is not there: ${why}`, {
    hint: "look at the worker's log; the attempt is tried again",
  })
}
