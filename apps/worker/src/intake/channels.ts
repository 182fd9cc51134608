import type { Redis } from 'ioredis'
import type { Releasable } from '../support/lifecycle.js'

/** What is heard on Redis' channels, over one connection. A message can be lost with it; who can't bear that looks again. */
export class Channels implements Releasable {
  readonly #subscriber: Redis
  readonly #listeners = new Map<string, (message: string) => void>()

  /** @param subscriber a connection for this alone; it is closed with the channels */
  constructor(subscriber: Redis) {
    this.#subscriber = subscriber
    subscriber.on('message', (channel: string, message: string) => this.#listeners.get(channel)?.(message))
  }

  /** To be called before `start`; one listener each. */
  hear(channel: string, listener: (message: string) => void): void {
    this.#listeners.set(channel, listener)
  }

  /** Told each time that the connection is there, maybe again: messages may have been lost. */
  onConnected(listener: () => void): void {
    this.#subscriber.on('ready', listener)
  }

  async start(): Promise<void> {
    await this.#subscriber.subscribe(...this.#listeners.keys())
  }

  async release(): Promise<void> {
    this.#subscriber.disconnect()
  }
}
