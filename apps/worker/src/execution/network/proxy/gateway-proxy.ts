import { Agent, type IncomingMessage, type ServerResponse } from 'node:http'
import { BlockList, connect, isIPv6, type LookupFunction, type Socket } from 'node:net'
import { canonicalHost } from '@agirunner/contracts'
import {
  type PrepareRequestFunctionOpts,
  type PrepareRequestFunctionResult,
  RequestError,
  Server,
} from 'proxy-chain'
import { AllowList } from './allow-list.js'
import { Denials, type Denied } from './denials.js'
import { type Address, type Resolve, resolveHost, Turnstile } from './lookup.js'
import type { AddressPolicy } from './policy.js'
import { joinTunnel } from './tunnel.js'

export interface ProxyLimits {
  /** Connections of one task, and requests that are under way. */
  readonly connections: number
  /** Names that are resolved at once for one task. */
  readonly lookups: number
  readonly connectMs: number
  /** For a request's head. */
  readonly headMs: number
  /** Without a byte in either direction. */
  readonly idleMs: number
}

export const PROXY_LIMITS: ProxyLimits = {
  connections: 256,
  lookups: 4,
  connectMs: 30_000,
  headMs: 10_000,
  idleMs: 10 * 60_000,
}

export interface GatewayProxyOptions {
  /** Where it listens: the address of the network's bridge. */
  readonly gateway: string
  /** 0 for the system's choice. */
  readonly port: number
  /** The network in CIDR notation: who is not in it is not answered. */
  readonly subnet: string
  readonly policy: () => AddressPolicy
  readonly resolve: Resolve
  readonly limits: ProxyLimits
  /** Told of each place that a task is refused for the first time. */
  readonly onDenied: (place: { host: string; port: number }) => void
}

/** What one task may reach, and what it was refused so far. */
interface Bound {
  readonly allow: AllowList
  readonly denials: Denials
  readonly lookups: Turnstile
  readonly agent: Agent
  requests: number
}

/** Methods with which Node would send a body of unknown length without a frame, so that it could pose as a request. */
const WITHOUT_BODY = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])

/**
 * The only way out of one network: an HTTP proxy on its gateway for the one task that is bound to it. Names are resolved
 * and checked for each request, and the connection goes to an address that was checked.
 */
export class GatewayProxy {
  readonly #options: GatewayProxyOptions
  readonly #server: Server
  readonly #members = new BlockList()
  readonly #responses = new WeakMap<IncomingMessage, ServerResponse>()
  #bound: Bound | null = null

  constructor(options: GatewayProxyOptions) {
    this.#options = options
    const [address = '', bits = ''] = options.subnet.split('/')
    this.#members.addSubnet(address, Number(bits))
    this.#server = new Server({
      host: options.gateway,
      port: options.port,
      authRealm: 'agirunner',
      prepareRequestFunction: request => this.#prepare(request),
    })
    const http = this.#server.server
    http.maxConnections = options.limits.connections
    http.headersTimeout = options.limits.headMs
    // A whole request may take as long as bytes come: an upload has no other bound.
    http.requestTimeout = 0
    http.timeout = options.limits.idleMs
    http.prependListener('connection', (socket: Socket) => {
      if (!this.#isMember(socket)) socket.destroy()
    })
    http.prependListener('request', (request, response) => this.#responses.set(request, response))
  }

  /** @returns the port */
  async listen(): Promise<number> {
    await this.#server.listen()
    return this.#server.port
  }

  /** From now on requests are those of a task that may reach `hosts`. */
  bind(hosts: readonly string[]): void {
    this.unbind()
    const { connections, lookups } = this.#options.limits
    this.#bound = {
      allow: new AllowList(hosts),
      denials: new Denials(),
      lookups: new Turnstile(lookups),
      // No connection is used twice: each belongs to one request, and to one check of its address.
      agent: new Agent({ keepAlive: false, maxSockets: connections, maxTotalSockets: connections }),
      requests: 0,
    }
  }

  /** Ends everything that is under way; whoever asks is refused until another task is bound. */
  unbind(): void {
    this.#server.closeConnections()
    this.#bound?.agent.destroy()
    this.#bound = null
  }

  /** What the bound task was refused so far. */
  denied(): Denied[] {
    return this.#bound?.denials.list() ?? []
  }

  async close(): Promise<void> {
    this.unbind()
    await this.#server.close(true)
  }

  /** The gateway's own address is in the subnet as well, but belongs to the machine and not to a task. */
  #isMember({ remoteAddress = '' }: Socket): boolean {
    return (
      remoteAddress !== this.#options.gateway &&
      this.#members.check(remoteAddress, isIPv6(remoteAddress) ? 'ipv6' : 'ipv4')
    )
  }

  async #prepare(asked: PrepareRequestFunctionOpts): Promise<PrepareRequestFunctionResult> {
    const bound = this.#bound
    if (!bound || !this.#isMember(asked.request.socket)) {
      throw new RequestError('agirunner: no task is known at your address', 403)
    }
    const { host, port } = readTarget(asked)
    this.#countRequest(bound, asked.request)
    if (!bound.allow.allows(host, port)) throw this.#refuse(bound, host, port, notListed(host, port))
    const addresses = await this.#resolve(bound, host, port)
    // The task may have ended meanwhile.
    if (this.#bound !== bound) throw new RequestError('agirunner: the task has ended', 403)
    const lookup = pinned(addresses)
    if (asked.isHttp) {
      // Its type is that of the whole `dns.lookup`, of which a connection calls this form alone.
      return {
        dnsLookup: lookup as NonNullable<PrepareRequestFunctionResult['dnsLookup']>,
        httpAgent: bound.agent,
      }
    }
    const server = await this.#connect(asked.request.socket, host, port, lookup)
    return { customConnectServer: this.#tunnelTo(server, bound, port) }
  }

  #countRequest(bound: Bound, request: IncomingMessage): void {
    // Requests may come in a row on one connection, without waiting for answers.
    if (bound.requests >= this.#options.limits.connections) {
      request.socket.destroy()
      throw new RequestError('agirunner: too many requests at once', 503)
    }
    bound.requests += 1
    // A CONNECT has no answer that ends, but its socket does.
    const until = this.#responses.get(request) ?? request.socket
    until.once('close', () => {
      bound.requests -= 1
    })
  }

  #refuse(bound: Bound, host: string, port: number, message: string): RequestError {
    if (bound.denials.add(host, port)) this.#options.onDenied({ host, port })
    return new RequestError(`agirunner: ${message}\n`, 403)
  }

  /** All addresses of the host; one that may not be reached refuses them all, for who says it says the others too. */
  async #resolve(bound: Bound, host: string, port: number): Promise<readonly Address[]> {
    const { resolve, policy } = this.#options
    const addresses = await bound.lookups
      .run(() => resolveHost(host, resolve))
      .catch((error: NodeJS.ErrnoException) => {
        throw new RequestError(
          `agirunner: "${host}" has no address: ${error.code ?? 'it could not be resolved'}\n`,
          502,
        )
      })
    for (const { address } of addresses) {
      const why = policy().refusal(address, port)
      if (why === null) continue
      throw this.#refuse(
        bound,
        host,
        port,
        `"${host}" can't be reached, because ${why}: ${address}. ${OPERATOR}`,
      )
    }
    return addresses
  }

  /** Connects before the tunnel is granted, so that a client hears why there is none. */
  #connect(client: Socket, host: string, port: number, lookup: LookupFunction): Promise<Socket> {
    return new Promise((resolve, reject) => {
      // With the address in place of the name, `connect` would not ask the pinned lookup.
      const server = connect({ host: `${host}.`, port, lookup, autoSelectFamily: true, noDelay: true })
      const gone = () => server.destroy(new Error('the client is gone'))
      const late = () => server.destroy(new Error('it does not answer'))
      const failed = (error: NodeJS.ErrnoException) => {
        client.off('close', gone)
        const why = error.code ?? error.message
        reject(new RequestError(`agirunner: ${host}:${port} can't be connected to: ${why}\n`, 502))
      }
      const connected = () => {
        client.off('close', gone)
        server.off('timeout', late)
        resolve(server)
      }
      // A listener for errors stays, for those that come before the tunnel has its own.
      server.on('error', failed)
      server.once('connect', connected)
      server.setTimeout(this.#options.limits.connectMs)
      server.on('timeout', late)
      client.once('close', gone)
      if (client.destroyed) gone()
    })
  }

  /** proxy-chain hands a granted tunnel to a server; this one joins it with the connection that stands already. */
  #tunnelTo(
    server: Socket,
    bound: Bound,
    port: number,
  ): NonNullable<PrepareRequestFunctionResult['customConnectServer']> {
    const { idleMs, headMs } = this.#options.limits
    const emit = (_event: string, client: Socket) => {
      joinTunnel(client, server, {
        idleMs,
        helloMs: headMs,
        allowsName: name => bound.allow.allowsName(name, port),
        onDenied: name => void this.#refuse(bound, printableName(name), port, ''),
      })
      return true
    }
    return { emit } as unknown as NonNullable<PrepareRequestFunctionResult['customConnectServer']>
  }
}

const OPERATOR = 'An operator can open such an address with AGIRUNNER_EGRESS_PRIVATE.'

function notListed(host: string, port: number): string {
  const name = isIPv6(host) ? `[${host}]` : host
  const entry = port === 80 || port === 443 ? name : `${name}:${port}`
  return `${name}:${port} is not allowed for this task; add "${entry}" to environment.network.hosts`
}

/** A name in a ClientHello is the task's to choose: only what could be one is repeated. */
function printableName(name: string | null): string {
  return (name !== null && canonicalHost(name)) || '(unreadable TLS name)'
}

/**
 * Where a request is to go, in the one form in which it is checked and connected to.
 *
 * @throws RequestError for what is no place, or is said to be two
 */
function readTarget({ request, hostname, port, isHttp }: PrepareRequestFunctionOpts): {
  host: string
  port: number
} {
  const host = canonicalHost(hostname)
  if (host === null) throw new RequestError('agirunner: the target is no host\n', 400)
  if (isHttp) checkFraming(request, host, port)
  return { host, port }
}

/** A server goes by the Host header, so it must name what was checked. */
function checkFraming(request: IncomingMessage, host: string, port: number): void {
  const hosts = request.rawHeaders.filter(
    (_value, at, all) => at % 2 === 1 && all[at - 1]?.toLowerCase() === 'host',
  )
  const said = hosts[0] === undefined ? null : readAuthority(hosts[0])
  if (hosts.length !== 1 || said === null || said.host !== host || said.port !== port) {
    throw new RequestError('agirunner: the Host header must name the host of the URL, once\n', 400)
  }
  if (request.headers['transfer-encoding'] !== undefined && WITHOUT_BODY.has(request.method ?? '')) {
    throw new RequestError('agirunner: a body with this method needs a content-length\n', 411)
  }
}

function readAuthority(text: string): { host: string; port: number } | null {
  const match = /^(.*?)(?::(\d{1,5}))?$/.exec(text)
  const host = canonicalHost(match?.[1] ?? '')
  return host === null ? null : { host, port: Number(match?.[2] ?? 80) }
}

/** A lookup that knows the checked addresses and nothing else. */
function pinned(addresses: readonly Address[]): LookupFunction {
  return (_host, options, callback) => {
    const [first] = addresses
    if (options.all)
      callback(
        null,
        addresses.map(one => ({ ...one })),
      )
    else callback(null, first?.address ?? '', first?.family ?? 4)
  }
}
