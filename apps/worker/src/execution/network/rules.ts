import { isIPv4 } from 'node:net'
import type { EgressRange, Endpoint } from '../../support/address-ranges.js'
import { METADATA_V4, PRIVATE_V4 } from '../../workspace/git/address.js'

/** The network of a task that has the proxy as its only way out. */
export interface ProxiedNetwork {
  readonly bridge: string
  readonly subnet: string
  readonly gateway: string
  readonly port: number
}

/** Everything that a worker's rules depend on. */
export interface RuleInput {
  /** What the names of the worker's bridges begin with; `l` for allowlist or `o` for open follows. */
  readonly prefix: string
  readonly proxied: readonly ProxiedNetwork[]
  /** Those of the machine. */
  readonly nameservers: readonly string[]
  readonly opened: readonly EgressRange[]
  readonly own: readonly Endpoint[]
}

/** Rules for one direction, each without the `-A CHAIN` in front. */
export interface RuleSet {
  /** From a task to the machine itself. */
  readonly IN: readonly string[]
  /** From a task to anywhere else. */
  readonly FWD: readonly string[]
  /** From anywhere else to a task. */
  readonly TO: readonly string[]
}

/**
 * New connections that a task may make to its proxy: the kernel lets the rest wait, so that a flood reaches the proxy's
 * process as a trickle.
 */
const NEW_CONNECTIONS = '-m limit --limit 200/second --limit-burst 500'

const REJECT = ['-p tcp -j REJECT --reject-with tcp-reset', '-j REJECT --reject-with icmp-port-unreachable']

/** Rules of IPv4. */
export function rulesV4(input: RuleInput): RuleSet {
  const open = `-i ${input.prefix}o+`
  const nameservers = input.nameservers.filter(isIPv4)
  return {
    IN: [
      ...input.proxied.flatMap(toProxy),
      // A nameserver of the machine's own; where it is another's, nothing matches.
      ...dns(nameservers, `${open} `, 'ACCEPT'),
      ...REJECT,
    ],
    FWD: [
      `-i ${input.prefix}l+ -p tcp -j REJECT --reject-with tcp-reset`,
      `-i ${input.prefix}l+ -j REJECT --reject-with icmp-port-unreachable`,
      ...dns(nameservers, '', 'RETURN'),
      ...METADATA_V4.flatMap(address => rejectTo(address)),
      ...input.own.filter(own => isIPv4(own.address)).flatMap(own => rejectTo(own.address, own.port)),
      ...input.opened.filter(range => isIPv4(range.address)).flatMap(opened),
      ...PRIVATE_V4.flatMap(([net, bits]) => rejectTo(`${net}/${bits}`)),
    ],
    TO: ['-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN', '-j DROP'],
  }
}

/** Networks of tasks have no IPv6: whatever comes by it is not meant to be. */
export function rulesV6(): RuleSet {
  const reject = [
    '-p tcp -j REJECT --reject-with tcp-reset',
    '-j REJECT --reject-with icmp6-port-unreachable',
  ]
  return { IN: reject, FWD: reject, TO: ['-j DROP'] }
}

function toProxy({ bridge, subnet, gateway, port }: ProxiedNetwork): string[] {
  const proxy = `-i ${bridge} -s ${subnet} -d ${gateway}/32 -p tcp -m tcp --dport ${port}`
  return [`${proxy} --syn ${NEW_CONNECTIONS} -j ACCEPT`, `${proxy} --syn -j DROP`, `${proxy} -j ACCEPT`]
}

function dns(nameservers: readonly string[], match: string, target: string): string[] {
  return nameservers.flatMap(address =>
    ['udp', 'tcp'].map(
      protocol => `${match}-d ${address} -p ${protocol} -m ${protocol} --dport 53 -j ${target}`,
    ),
  )
}

function rejectTo(address: string, port?: number): string[] {
  const only = port === undefined ? '' : ` --dport ${port}`
  const tcp = `-d ${address} -p tcp -m tcp${only} -j REJECT --reject-with tcp-reset`
  return port === undefined ? [tcp, `-d ${address} -j REJECT --reject-with icmp-port-unreachable`] : [tcp]
}

function opened({ address, bits, port }: EgressRange): string[] {
  const to = `-d ${address}/${bits}`
  if (port === null) return [`${to} -j RETURN`]
  return ['tcp', 'udp'].map(protocol => `${to} -p ${protocol} -m ${protocol} --dport ${port} -j RETURN`)
}
