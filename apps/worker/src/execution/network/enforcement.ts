import { readdir } from 'node:fs/promises'
import type { TaskResult } from '@agirunner/contracts'
import type { Owner } from '../../engine/labels.js'
import type { EgressRange, Endpoint } from '../../support/address-ranges.js'
import { sleep } from '../../support/lifecycle.js'
import { type Log, messageOf } from '../../support/log.js'
import { Firewall } from './firewall.js'
import { endpointsOf, nameservers } from './machine.js'
import type { PooledNetwork } from './pool.js'
import { Denials } from './proxy/denials.js'
import { ProxyProcess } from './proxy-process.js'

export interface EnforcementOptions {
  readonly owner: Owner
  readonly log: Log
  readonly opened: readonly EgressRange[]
  readonly own: readonly { readonly host: string; readonly port: number }[]
}

type Denied = TaskResult['egressDenied']
type Place = { readonly host: string; readonly port: number }

/** The proxy of one network, and the task that it serves. */
interface WayOut {
  readonly network: PooledNetwork
  /** 0 until it is known; then it stays, because the task has it in its environment. */
  port: number
  task: {
    readonly hosts: readonly string[]
    readonly seen: Denials
    readonly onDenied: (place: Place) => void
  } | null
}

/** What the rules depend on besides the networks. */
interface Surroundings {
  readonly nameservers: readonly string[]
  readonly own: readonly Endpoint[]
}

/** Between two starts of a proxy that dies. In milliseconds. */
const RESTART_MS = 500

/** @throws Error that says why this machine's rules can't be changed */
export async function startEnforcement(options: EnforcementOptions): Promise<Enforcement> {
  const enforcement = new Enforcement(await Firewall.open(options.owner), options)
  await enforcement.refresh()
  return enforcement
}

/** What holds tasks to their networks: the rules of the kernel, and the proxies that are the only way through them. */
export class Enforcement {
  readonly #firewall: Firewall
  readonly #options: EnforcementOptions
  readonly #ways = new Map<string, WayOut>()
  #surroundings: Surroundings = { nameservers: [], own: [] }
  #proxy: Promise<ProxyProcess> | null = null
  #closed = false

  constructor(firewall: Firewall, options: EnforcementOptions) {
    this.#firewall = firewall
    this.#options = options
  }

  get variant(): string {
    return this.#firewall.variant
  }

  /** Makes sure that the rules are in force. @throws Error when they can't be brought into force */
  async check(): Promise<void> {
    if (await this.#firewall.check()) this.#options.log.warn('rules of task networks were gone and are back')
  }

  /** As `check`, with the machine's nameservers and the runtime's own addresses of now; dead workers' rules go. */
  async refresh(): Promise<void> {
    const own = (await Promise.all(this.#options.own.map(endpointsOf))).flat()
    const now: Surroundings = {
      nameservers: await nameservers(),
      own: own.length > 0 ? own : this.#surroundings.own,
    }
    const changed = this.#firewall.empty || JSON.stringify(now) !== JSON.stringify(this.#surroundings)
    this.#surroundings = now
    if (changed) {
      await this.#apply()
      await (await this.#proxy)?.rules(this.#egressRules())
    }
    await this.check()
    const swept = await this.#firewall.sweep(await readdir('/sys/class/net'), this.#options.owner.host)
    if (swept > 0) this.#options.log.info('removed the network rules of dead workers', { workers: swept })
  }

  /** Starts the network's proxy, unless it has one, and lets the network's tasks reach it. */
  async listen(network: PooledNetwork): Promise<WayOut> {
    const known = this.#ways.get(network.name)
    if (known) return known
    const way: WayOut = { network, port: 0, task: null }
    way.port = await (await this.#running()).listen(placeOf(way))
    this.#ways.set(network.name, way)
    await this.#apply()
    return way
  }

  /** From now on the network's proxy is that of a task that may reach `hosts`. @returns the proxy's URL */
  async bind(
    network: PooledNetwork,
    hosts: readonly string[],
    onDenied: (place: Place) => void,
  ): Promise<string> {
    const way = await this.listen(network)
    const proxy = await this.#running()
    way.task = { hosts, seen: new Denials(), onDenied }
    await proxy.bind(network.name, hosts)
    return `http://${network.gateway}:${way.port}`
  }

  /** Starts the proxy of a dead worker's network again, at its port, for the task that is in it. */
  async adopt(
    network: PooledNetwork,
    port: number,
    hosts: readonly string[],
    onDenied: (place: Place) => void,
  ): Promise<void> {
    const proxy = await this.#running()
    const way: WayOut = { network, port, task: { hosts, seen: new Denials(), onDenied } }
    await proxy.listen(placeOf(way))
    this.#ways.set(network.name, way)
    await proxy.bind(network.name, hosts)
  }

  /** As `unbind`, of a network that nobody uses again. */
  async forget(network: PooledNetwork): Promise<void> {
    await this.unbind(network)
    this.#ways.delete(network.name)
  }

  /** Ends all connections of the network's task. */
  async unbind(network: PooledNetwork): Promise<void> {
    const way = this.#ways.get(network.name)
    if (!way) return
    way.task = null
    // With its process the proxy has lost the task as well.
    await (await this.#proxy)?.unbind(network.name).catch(() => undefined)
  }

  /** What the network's task was refused; of what a dead proxy counted, each place once. Never rejects. */
  async denied(network: PooledNetwork): Promise<Denied> {
    const seen = this.#ways.get(network.name)?.task?.seen.list() ?? []
    if (seen.length === 0) return []
    const counted = await this.#proxy?.then(proxy => proxy.denied(network.name)).catch(() => [])
    const missing = seen.filter(
      one => !counted?.some(other => other.host === one.host && other.port === one.port),
    )
    return [...(counted ?? []), ...missing]
  }

  async endProxy(): Promise<void> {
    this.#closed = true
    await (await this.#proxy)?.end()
  }

  async removeRules(): Promise<void> {
    await this.#firewall.remove()
  }

  async #apply(): Promise<void> {
    const proxied = [...this.#ways.values()].map(({ network, port }) => ({ ...network, port }))
    await this.#firewall.apply({ proxied, ...this.#surroundings, opened: this.#options.opened })
  }

  #egressRules() {
    return { opened: this.#options.opened, own: this.#surroundings.own }
  }

  #running(): Promise<ProxyProcess> {
    this.#proxy ??= this.#startProxy()
    return this.#proxy
  }

  async #startProxy(): Promise<ProxyProcess> {
    const proxy = new ProxyProcess({
      onDenied: (network, place) => this.#hear(network, place),
      onDeath: why => void this.#restart(why),
    })
    await proxy.rules(this.#egressRules())
    for (const way of this.#ways.values()) {
      await proxy.listen(placeOf(way))
      if (way.task) await proxy.bind(way.network.name, way.task.hosts)
    }
    return proxy
  }

  /** Tasks that run get their proxy back at the same place; until then they have no way out. */
  async #restart(why: string): Promise<void> {
    if (this.#closed) return
    this.#options.log.error('the proxy of task networks died, starting another', { reason: why })
    const restarted = sleep(RESTART_MS).then(() => this.#startProxy())
    this.#proxy = restarted
    await restarted.catch(error => {
      this.#options.log.error('the proxy could not be started', { reason: messageOf(error) })
      if (this.#proxy === restarted) this.#proxy = null
    })
  }

  #hear(network: string, { host, port }: Place): void {
    const task = this.#ways.get(network)?.task
    if (task?.seen.add(host, port)) task.onDenied({ host, port })
  }
}

function placeOf({ network, port }: WayOut) {
  return { network: network.name, gateway: network.gateway, subnet: network.subnet, port }
}
