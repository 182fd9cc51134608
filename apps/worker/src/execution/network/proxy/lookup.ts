import { lookup as systemLookup } from 'node:dns'
import { isIP } from 'node:net'

export interface Address {
  readonly address: string
  readonly family: number
}

/** All addresses of a name; rejects when it has none. */
export type Resolve = (name: string) => Promise<readonly Address[]>

/** As the system resolves, its hosts file included. It occupies one of libuv's threads until it is answered. */
export const resolveBySystem: Resolve = name =>
  new Promise((resolve, reject) => {
    systemLookup(name, { all: true }, (error, addresses) => (error ? reject(error) : resolve(addresses)))
  })

/** Lets so many pieces of work run at once; the others wait in their order. */
export class Turnstile {
  readonly #waiting: (() => void)[] = []
  #free: number

  constructor(size: number) {
    this.#free = size
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1
    else await new Promise<void>(resolve => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#free += 1
    }
  }
}

/** An address is one already; only names are asked for. */
export async function resolveHost(host: string, resolve: Resolve): Promise<readonly Address[]> {
  const family = isIP(host)
  return family === 0 ? await resolve(host) : [{ address: host, family }]
}
