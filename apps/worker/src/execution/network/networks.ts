import { type Capability, type Task, TaskFailure, type TaskResult } from '@agirunner/contracts'
import type { ContainerEngine } from '../../engine/engine.js'
import type { Owner } from '../../engine/labels.js'
import type { EgressRange } from '../../support/address-ranges.js'
import type { Releasable } from '../../support/lifecycle.js'
import { type Log, messageOf } from '../../support/log.js'
import { type Enforcement, startEnforcement } from './enforcement.js'
import { type Traffic, trafficOf } from './machine.js'
import { type Kind, NetworkPool, type PooledNetwork } from './pool.js'

export type NetworkMode = Task['environment']['network']['mode']

export interface NetworkOptions {
  readonly engine: ContainerEngine
  readonly owner: Owner
  readonly log: Log
  /** What the operator lets tasks ask for. */
  readonly modes: ReadonlySet<NetworkMode>
  /** Private addresses that tasks may reach all the same. */
  readonly opened: readonly EgressRange[]
  /** Host and port of the runtime's own Redis and engine, which no task may reach. */
  readonly own: readonly { readonly host: string; readonly port: number }[]
}

/** What one task's network has seen; traffic is null where there is none to count. */
export interface Egress {
  readonly denied: TaskResult['egressDenied']
  readonly traffic: Traffic | null
}

/** A network that waits for its task. */
export interface ReservedNetwork extends Releasable {
  readonly name: string
  readonly dns: readonly string[]
  /** Null for `none`. */
  readonly taken: PooledNetwork | null
}

/** What another worker must know to go on with a task's network. */
export interface SavedNetwork {
  readonly network: PooledNetwork
  /** Of the proxy on its gateway, which the task has in its environment; null where it has none. */
  readonly port: number | null
  readonly before: Traffic | null
}

/** One task's network, from before its container is made until after it is gone. */
export interface TaskNetwork extends Releasable {
  /** For the container: `none`, or a network of the engine's. */
  readonly name: string
  /** Null for `none`. */
  readonly saved: SavedNetwork | null
  /** Nameservers for the container; empty for the engine's choice. */
  readonly dns: readonly string[]
  /** What the task finds in its environment. */
  readonly env: Readonly<Record<string, string>>
  /** Never rejects. */
  egress(): Promise<Egress>
}

type OnDenied = (place: { host: string; port: number }) => void

export const NO_EGRESS: Egress = { denied: [], traffic: null }
const NONE: TaskNetwork = {
  name: 'none',
  saved: null,
  dns: [],
  env: {},
  egress: () => Promise.resolve(NO_EGRESS),
  release: () => Promise.resolve(),
}
/** In its own loopback: no query of the task's leaves its container, whichever resolver it asks. */
const NO_DNS = ['127.0.0.1']
const KINDS: readonly Kind[] = ['allowlist', 'open']

/** Gives each task the network that it asks for, enforced; what can't be enforced here is refused. */
export class Networks {
  readonly #options: NetworkOptions
  readonly #pool: NetworkPool
  /** Null where this machine can't enforce anything but `none`. */
  readonly #enforcement: Enforcement | null
  #broken: string | null

  private constructor(options: NetworkOptions, pool: NetworkPool, made: Enforcement | string) {
    this.#options = options
    this.#pool = pool
    this.#enforcement = typeof made === 'string' ? null : made
    this.#broken = typeof made === 'string' ? made : null
  }

  /** Never rejects: what does not work becomes a reason to refuse tasks. */
  static async start(options: NetworkOptions): Promise<Networks> {
    const pool = new NetworkPool(options.engine, options.owner)
    if (!KINDS.some(kind => options.modes.has(kind))) return new Networks(options, pool, 'no mode needs it')
    try {
      const enforcement = await startEnforcement(options)
      const networks = new Networks(options, pool, enforcement)
      const why = await networks.#probe()
      if (why === null) return networks
      await networks.close().catch(error => options.log.warn('release failed', { reason: messageOf(error) }))
      return new Networks(options, pool, why)
    } catch (error) {
      return new Networks(options, pool, messageOf(error))
    }
  }

  /** What this worker can enforce, now. */
  capabilities(): Capability[] {
    const none: Capability = {
      name: 'network none',
      state: 'enforced',
      detail: 'no interface but lo',
      fix: null,
    }
    return [
      this.#forbidden('none') ?? none,
      ...KINDS.map(kind => this.#forbidden(kind) ?? this.#capability(kind)),
    ]
  }

  /** @throws TaskFailure `spec.forbidden` against the operator's policy, `environment.unsupported` */
  check(task: Task): void {
    const { mode } = task.environment.network
    if (!this.#options.modes.has(mode)) {
      throw new TaskFailure(
        'spec.forbidden',
        `environment.network.mode "${mode}" is switched off by the operator`,
        {
          hint: `use ${[...this.#options.modes].join(' or ')}, or have the operator change AGIRUNNER_NETWORKS`,
        },
      )
    }
    if (mode !== 'none' && this.#broken !== null) throw unsupported(mode, this.#broken)
  }

  /**
   * The network of one task. Its rules are in force when this returns, and stay so as long as there is a bridge.
   *
   * @param onDenied told of each place that the task is refused for the first time
   * @throws TaskFailure as `check`, `container.create_failed`, `engine.unavailable`
   */
  async acquire(task: Task, onDenied: OnDenied): Promise<TaskNetwork> {
    this.check(task)
    return await this.assign(await this.reserve(task.environment.network.mode), task, onDenied)
  }

  /** A network that no task has yet, for a container that waits for one. @throws as `acquire` */
  async reserve(mode: NetworkMode): Promise<ReservedNetwork> {
    if (mode === 'none') return { name: 'none', dns: [], taken: null, release: () => Promise.resolve() }
    const enforcement = await this.#inForce(mode)
    const taken = await this.#pool.take(mode)
    try {
      if (mode === 'allowlist') await enforcement.listen(taken)
    } catch (error) {
      this.#pool.give(taken)
      throw error
    }
    const dns = mode === 'allowlist' ? NO_DNS : []
    const release = once(async () => this.#pool.give(taken))
    return { name: taken.name, dns, taken, release }
  }

  /** Makes a reserved network the task's, which is held to its rules from now on. @throws as `acquire`; then it is given back */
  async assign(reserved: ReservedNetwork, task: Task, onDenied: OnDenied): Promise<TaskNetwork> {
    const { network } = task.environment
    const { taken } = reserved
    if (network.mode === 'none' || taken === null) return NONE
    try {
      const enforcement = await this.#inForce(network.mode)
      const proxy =
        network.mode === 'allowlist' ? await enforcement.bind(taken, network.hosts, onDenied) : null
      const before = await trafficOf(taken.bridge)
      return {
        name: taken.name,
        saved: { network: taken, port: proxy === null ? null : Number(new URL(proxy).port), before },
        dns: proxy === null ? [] : NO_DNS,
        env: proxy === null ? {} : proxyEnvironment(task, proxy),
        egress: () => egressOf(enforcement, taken, before),
        release: once(async () => {
          await enforcement.unbind(taken)
          await reserved.release()
        }),
      }
    } catch (error) {
      await reserved.release()
      throw error
    }
  }

  /**
   * The network of a task that goes on, whose worker died. The rules that this one wrote stay in the kernel for as long as
   * its bridge is there; what went with it is the proxy.
   *
   * @throws TaskFailure `environment.unsupported`, `container.create_failed`
   */
  async adopt({ environment }: Task, saved: SavedNetwork | null, onDenied: OnDenied): Promise<TaskNetwork> {
    if (saved === null) return NONE
    const { network, port, before } = saved
    const { mode } = environment.network
    if (this.#enforcement === null || mode === 'none') throw unsupported(mode, this.#broken ?? '')
    const enforcement = this.#enforcement
    if (port !== null && environment.network.mode === 'allowlist')
      await enforcement.adopt(network, port, environment.network.hosts, onDenied)
    return {
      name: network.name,
      saved,
      dns: [],
      env: {},
      egress: () => egressOf(enforcement, network, before),
      release: once(async () => {
        await enforcement.forget(network)
        await this.#options.engine.removeNetwork(network.name)
      }),
    }
  }

  /** To be called now and then: puts rules back that somebody took away, and removes those of dead workers. */
  async round(): Promise<void> {
    if (this.#enforcement === null) return
    try {
      await this.#enforcement.refresh()
      this.#broken = null
    } catch (error) {
      this.#broken = messageOf(error)
      this.#options.log.error('the rules of task networks are not in force', { reason: this.#broken })
    }
  }

  async close(): Promise<void> {
    await this.#enforcement?.endProxy()
    const left = await this.#pool.close()
    // No network outlives its rules: with one that is still in use they stay, until a reaper clears both away.
    if (left.length === 0) await this.#enforcement?.removeRules()
    else this.#options.log.warn('networks are still in use', { networks: left.map(({ name }) => name) })
  }

  /** A network of each kind shows that the engine's bridges are on this machine; it waits for the first task then. */
  async #probe(): Promise<string | null> {
    const kind: Kind = this.#options.modes.has('allowlist') ? 'allowlist' : 'open'
    try {
      const network = await this.#pool.take(kind)
      if (kind === 'allowlist') await this.#enforcement?.listen(network)
      this.#pool.give(network)
      return null
    } catch (error) {
      return messageOf(error)
    }
  }

  async #inForce(mode: Kind): Promise<Enforcement> {
    if (this.#enforcement === null) throw unsupported(mode, this.#broken ?? '')
    try {
      await this.#enforcement.check()
      return this.#enforcement
    } catch (error) {
      this.#broken = messageOf(error)
      throw unsupported(mode, this.#broken)
    }
  }

  #forbidden(mode: NetworkMode): Capability | null {
    if (this.#options.modes.has(mode)) return null
    const detail = 'switched off by the operator (AGIRUNNER_NETWORKS)'
    return { name: `network ${mode}`, state: 'missing', detail, fix: null }
  }

  #capability(kind: Kind): Capability {
    const name = `network ${kind}`
    if (this.#broken !== null) {
      const fix = 'run the worker as root beside an engine that keeps its rules in iptables'
      return { name, state: 'missing', detail: this.#broken, fix }
    }
    const rules = `rules by ${this.#enforcement?.variant ?? 'iptables'}`
    const detail =
      kind === 'allowlist' ? `a proxy is the only way out; ${rules}` : `no private address; no IPv6; ${rules}`
    return { name, state: 'enforced', detail, fix: null }
  }
}

async function egressOf(
  enforcement: Enforcement,
  network: PooledNetwork,
  before: Traffic | null,
): Promise<Egress> {
  const [denied, now] = await Promise.all([enforcement.denied(network), trafficOf(network.bridge)])
  // A restarted engine makes the bridge anew, and its counters begin again.
  const since = (name: keyof Traffic) => Math.max(0, (now?.[name] ?? 0) - (before?.[name] ?? 0))
  return { denied: [...denied], traffic: now && { rxBytes: since('rxBytes'), txBytes: since('txBytes') } }
}

/**
 * What makes apt, npm, pip, git and curl go by the proxy. Where the task sets a name in either case, both are its own.
 * Node's own client goes by it only when told to.
 */
function proxyEnvironment(task: Task, proxy: string): Record<string, string> {
  const values = { http_proxy: proxy, https_proxy: proxy, no_proxy: 'localhost,127.0.0.1,::1' }
  const { env, secrets } = task.environment
  const given = Object.keys({ ...env, ...secrets }).map(name => name.toLowerCase())
  const pairs = Object.entries(values).filter(([name]) => !given.includes(name))
  return Object.fromEntries([
    ...pairs.flatMap(([name, value]) => [
      [name, value],
      [name.toUpperCase(), value],
    ]),
    ['NODE_USE_ENV_PROXY', '1'],
  ])
}

function unsupported(mode: NetworkMode, why: string): TaskFailure {
  return new TaskFailure(
    'environment.unsupported',
    `this worker can't enforce network mode "${mode}": ${why}`,
  )
}

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | null = null
  return () => {
    done ??= work()
    return done
  }
}
