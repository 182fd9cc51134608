import { Agent, type IncomingMessage, type ServerResponse } from 'node:http'
import { BlockList, connect, isIPv6, type LookupFunction, type Socket } from 'node:net'
import {
  type PrepareRequestFunctionOpts,
  type PrepareRequestFunctionResult,
  RequestError,
  Server,
} from 'proxy-chain'
import { AllowList } from './allow-list.js'
import { Denials, type Denied } from './denials.js'
import { type Address, type Resolve, resolveHost, Turnstile } from './lookup.js'
import { type AddressPolicy, PRIVATE } from './policy.js'
import { notListed, OPERATOR, pinned, printableName, readTarget } from './target.js'
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

/**
 * The only way out of one network: an HTTP proxy on its gateway for the one task that is bound to it. Names are resolved
 * and checked for each request, and the connection goes to an address that was checked.
 */
export class GatewayProxy {
  readonly #options: GatewayProxyOptions
  readonly #server: Server
  readonly #members = new BlockList()
  /** Of connections whose first request has not come yet. */
  readonly #heads = new WeakMap<Socket, NodeJS.Timeout>()
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
      if (!this.#isMember(socket)) {
        socket.destroy()
        return
      }
      // Node looks for late heads only every 30 s.
      const late = setTimeout(() => socket.destroy(), options.limits.headMs)
      socket.once('close', () => clearTimeout(late))
      this.#heads.set(socket, late)
    })
    http.prependListener('request', (request, response) => {
      clearTimeout(this.#heads.get(request.socket))
      this.#responses.set(request, response)
    })
    http.prependListener('connect', request => clearTimeout(this.#heads.get(request.socket)))
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
        `"${host}" can't be reached, because ${why}: ${address}${why === PRIVATE ? OPERATOR : ''}`,
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
