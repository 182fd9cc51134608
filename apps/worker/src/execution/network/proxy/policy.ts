import { BlockList, isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type EgressRange, type Endpoint, isLoopback } from '../../../support/address-ranges.js'
import { type AddressKind, embeddedV4, kindOf } from '../../../workspace/git/address.js'

/** What the operator says of addresses, for all tasks of a worker. */
export interface EgressRules {
  /** Private addresses that tasks may reach all the same. */
  readonly opened: readonly EgressRange[]
  /** Where the runtime's own Redis and engine listen. */
  readonly own: readonly Endpoint[]
}

/** What an operator can open. */
export const PRIVATE = 'it is a private address, or one of this machine'

/** Which addresses the proxy may connect to, whatever name led there. */
export class AddressPolicy {
  readonly #rules: EgressRules
  readonly #opened: readonly { readonly list: BlockList; readonly port: number | null }[]

  constructor(rules: EgressRules) {
    this.#rules = rules
    this.#opened = rules.opened.map(({ address, bits, port }) => {
      const list = new BlockList()
      list.addSubnet(address, bits, typeOf(address))
      return { list, port }
    })
  }

  /** @returns why a task may not connect there, in a few words; null when it may */
  refusal(resolved: string, port: number): string | null {
    const address = embeddedV4(resolved) ?? resolved
    const kind = this.#kindOf(address)
    if (kind === 'metadata') return 'it is where a cloud hands out credentials'
    if (this.#isOwn(address, port)) return 'the runtime itself listens there'
    if (kind === 'public' || this.#isOpened(address, port)) return null
    return PRIVATE
  }

  /** This machine's own addresses count as private, however public they are: what listens there may trust itself. */
  #kindOf(address: string): AddressKind {
    const kind = kindOf(address)
    return kind === 'public' && isOfThisMachine(address) ? 'private' : kind
  }

  #isOwn(address: string, port: number): boolean {
    const local = isLocal(address)
    return this.#rules.own.some(
      own => own.port === port && (own.address === address || (local && isLocal(own.address))),
    )
  }

  #isOpened(address: string, port: number): boolean {
    return this.#opened.some(one => one.list.check(address, typeOf(address)) && (one.port ?? port) === port)
  }
}

/** What listens on all addresses is reached by each of them. */
function isLocal(address: string): boolean {
  return isLoopback(address) || isOfThisMachine(address)
}

/** A machine's addresses change rarely, and are asked for with every request. In milliseconds. */
const FRESH_MS = 1000
let known = { at: Number.NEGATIVE_INFINITY, addresses: new Set<string>() }

function isOfThisMachine(address: string): boolean {
  const now = performance.now()
  if (now - known.at > FRESH_MS) {
    const lists = Object.values(networkInterfaces())
    known = { at: now, addresses: new Set(lists.flatMap(list => list?.map(one => one.address) ?? [])) }
  }
  return known.addresses.has(address)
}

function typeOf(address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 6 ? 'ipv6' : 'ipv4'
}
