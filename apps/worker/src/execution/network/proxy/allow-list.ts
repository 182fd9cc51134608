import { type AllowedHost, canonicalHost, parseAllowedHost } from '@agirunner/contracts/network-host'

/** The places that one task may reach, by name and port. */
export class AllowList {
  readonly #hosts: readonly AllowedHost[]

  /** @param hosts as in `environment.network.hosts`, checked when the task was parsed */
  constructor(hosts: readonly string[]) {
    this.#hosts = hosts.flatMap(host => parseAllowedHost(host) ?? [])
  }

  /** @param host in its canonical form */
  allows(host: string, port: number): boolean {
    return this.#hosts.some(one => one.ports.includes(port) && isNamed(one, host))
  }

  /** Whether a TLS client may ask for this name on that port; what is no name is not allowed. */
  allowsName(name: string, port: number): boolean {
    const host = canonicalHost(name)
    return host !== null && this.allows(host, port)
  }
}

function isNamed({ name, wildcard }: AllowedHost, host: string): boolean {
  return wildcard ? host.endsWith(`.${name}`) : host === name
}
