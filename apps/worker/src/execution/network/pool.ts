import { access } from 'node:fs/promises'
import { TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine } from '../../engine/engine.js'
import { labelsOf, type Owner } from '../../engine/labels.js'
import { bridgePrefix, networkTag } from './firewall.js'
import { freeSubnets, type Subnet } from './subnets.js'

export type Kind = 'allowlist' | 'open'

/** A network of the engine's for one task at a time. */
export interface PooledNetwork extends Subnet {
  readonly kind: Kind
  readonly name: string
  /** Its interface on this machine. */
  readonly bridge: string
}

/** How often another worker may have taken a subnet a moment before. */
const MAX_TRIES = 50

/**
 * Networks that tasks use one after another, never two at a time: making one costs more than everything else about a
 * task's network. They are made when needed and kept until the end.
 */
export class NetworkPool {
  readonly #engine: ContainerEngine
  readonly #owner: Owner
  readonly #tag: string
  readonly #all = new Set<PooledNetwork>()
  readonly #idle: PooledNetwork[] = []
  #made = 0

  constructor(engine: ContainerEngine, owner: Owner) {
    this.#engine = engine
    this.#owner = owner
    this.#tag = networkTag(owner)
  }

  /**
   * A network without any container in it.
   *
   * @throws TaskFailure `container.create_failed`, `engine.unavailable`; `environment.unsupported` when the engine's
   * networks are not on this machine
   */
  async take(kind: Kind): Promise<PooledNetwork> {
    for (;;) {
      const at = this.#idle.findLastIndex(network => network.kind === kind)
      if (at === -1) return await this.#make(kind)
      const [network] = this.#idle.splice(at, 1)
      // Whoever gave it back may have failed to remove the container: then nobody else gets it.
      if (network && !(await this.#engine.networkInUse(network.name))) return network
    }
  }

  give(network: PooledNetwork): void {
    this.#idle.push(network)
  }

  /** @returns networks that are still there, because a container is in them */
  async close(): Promise<PooledNetwork[]> {
    this.#idle.length = 0
    for (const network of this.#all) {
      await this.#engine.removeNetwork(network.name)
      if (!(await isOnThisMachine(network))) this.#all.delete(network)
    }
    return [...this.#all]
  }

  async #make(kind: Kind): Promise<PooledNetwork> {
    const letter = kind === 'allowlist' ? 'l' : 'o'
    this.#made += 1
    const number = this.#made.toString(36)
    const name = `agirunner-${this.#tag}-${letter}${number}`
    const bridge = `${bridgePrefix(this.#tag)}${letter}${number}`
    let tries = 0
    for (const subnet of freeSubnets()) {
      const network: PooledNetwork = { kind, name, bridge, ...subnet }
      if (await this.#create(network)) return await this.#keep(network)
      tries += 1
      if (tries === MAX_TRIES) break
    }
    throw new TaskFailure('container.create_failed', `the engine has no room for network ${name}`, {
      hint: 'look at `docker network ls` for networks in 198.19.0.0/16',
    })
  }

  async #create({ kind, name, bridge, subnet, gateway }: PooledNetwork): Promise<boolean> {
    const labels = labelsOf(this.#owner, 'helper', 'none')
    const internal = kind === 'allowlist'
    return await this.#engine.createNetwork({ name, labels, bridge, subnet, gateway, internal })
  }

  /** Rules and proxies are of use only where the engine's bridges are. */
  async #keep(network: PooledNetwork): Promise<PooledNetwork> {
    this.#all.add(network)
    if (await isOnThisMachine(network)) return network
    this.#all.delete(network)
    await this.#engine.removeNetwork(network.name)
    throw new TaskFailure(
      'environment.unsupported',
      "the engine's networks are not on this machine, so no rule of this worker holds for them",
      { hint: "run the worker in the network of the engine's machine, or use network mode none" },
    )
  }
}

function isOnThisMachine({ bridge }: PooledNetwork): Promise<boolean> {
  return access(`/sys/class/net/${bridge}`).then(
    () => true,
    () => false,
  )
}
