import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** The engine behind a TCP port that holds back every request of a kind, once it is told to, until it is let go. */
export class EngineGate {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #pattern: RegExp
  #armed = false
  #reached: () => void = () => undefined
  #open: () => void = () => undefined
  readonly #opened: Promise<void>
  /** Resolves once a request is held. */
  readonly reached: Promise<void>

  /** @param hold matches the first line of a request, such as `POST /containers/create` */
  static async start(hold: RegExp): Promise<EngineGate> {
    const gate = new EngineGate(hold)
    gate.#server.listen(0, '127.0.0.1')
    await once(gate.#server, 'listening')
    return gate
  }

  private constructor(hold: RegExp) {
    this.#pattern = hold
    this.reached = new Promise(resolve => {
      this.#reached = resolve
    })
    this.#opened = new Promise(resolve => {
      this.#open = resolve
    })
    this.#server = createServer(client => this.#join(client))
  }

  /** As DOCKER_HOST would name it. */
  get host(): string {
    return `tcp://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** From now on requests of the kind are held: a worker that starts makes some of its own. */
  hold(): void {
    this.#armed = true
  }

  /** Lets through what is held, and all that follows. */
  letGo(): void {
    this.#open()
  }

  async close(): Promise<void> {
    this.#open()
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }

  #join(client: Socket): void {
    const engine = connectEngine()
    void this.#passOn(client, engine)
    engine.pipe(client)
    for (const [socket, other] of [
      [client, engine],
      [engine, client],
    ] as const) {
      this.#sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        this.#sockets.delete(socket)
        other.destroy()
      })
    }
  }

  /** A kept connection carries one request at a time, so each begins a chunk. */
  async #passOn(client: Socket, engine: Socket): Promise<void> {
    try {
      for await (const chunk of client as AsyncIterable<Buffer>) {
        if (this.#armed && this.#pattern.test(chunk.toString('latin1', 0, 300).split('\r\n')[0] ?? '')) {
          this.#reached()
          await this.#opened
        }
        engine.write(chunk)
      }
    } catch {
      // The worker gave the request up.
    }
  }
}

function connectEngine(): Socket {
  const host = process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock'
  if (host.startsWith('unix://')) return connect(host.slice('unix://'.length))
  const { hostname, port } = new URL(host)
  return connect(Number(port || 2375), hostname)
}
