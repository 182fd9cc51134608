import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** The engine behind a TCP port, as a remote one is, over connections that a test can cut. */
export class EngineProxy {
  readonly #server: Server
  readonly #clients = new Set<Socket>()
  readonly #following = new Set<Socket>()
  #followed = 0
  #waited = 0

  static async start(): Promise<EngineProxy> {
    const proxy = new EngineProxy()
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  private constructor() {
    this.#server = createServer(client => this.#join(client))
  }

  /** As DOCKER_HOST would name it. */
  get host(): string {
    return `tcp://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** How many connections have begun to follow the output of a container. */
  get followed(): number {
    return this.#followed
  }

  /** How many times the engine has answered that it will tell a container's end. */
  get waited(): number {
    return this.#waited
  }

  /** Breaks every connection. */
  cutAll(): void {
    for (const client of this.#clients) client.destroy()
  }

  /** Breaks every connection that follows the output of a container; `how` is what its ends see of it. */
  cut(how: 'end' | 'reset'): void {
    for (const client of this.#following) {
      if (how === 'reset') client.resetAndDestroy()
      else client.destroy()
    }
  }

  async close(): Promise<void> {
    this.#server.close()
    for (const client of this.#clients) client.destroy()
    await once(this.#server, 'close')
  }

  #join(client: Socket): void {
    const engine = connectEngine()
    this.#clients.add(client)
    client.on('data', (request: Buffer) => {
      const head = request.toString('latin1', 0, 200)
      if (/^POST \S*\/wait/.test(head))
        engine.once('data', () => {
          this.#waited += 1
        })
      if (!/^POST \S*\/attach/.test(head)) return
      this.#following.add(client)
      engine.once('data', () => {
        this.#followed += 1
      })
    })
    for (const [from, to] of [
      [client, engine],
      [engine, client],
    ] as const) {
      from.pipe(to)
      from.on('error', () => undefined)
      from.on('close', () => {
        this.#clients.delete(client)
        this.#following.delete(client)
        to.destroy()
      })
    }
  }
}

function connectEngine(): Socket {
  const host = process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock'
  if (host.startsWith('unix://')) return connect(host.slice('unix://'.length))
  const { hostname, port } = new URL(host)
  return connect(Number(port || 2375), hostname)
}
