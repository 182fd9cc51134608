import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Offer } from './protocol.js'

/** One request as a script sees it. */
export interface Ask {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Where this repository is on the server, such as `/reset.git`. */
  readonly path: string
  readonly body: string
  /** What an honest server would answer. */
  readonly honest: Buffer
}

export type Answer = (ask: Ask) => unknown

/** How a server behaves; what is not given is honest. */
export interface Script {
  /** Its refs and its pack. */
  readonly offer?: Partial<Offer>
  /** To `GET info/refs`. */
  readonly discovery?: Answer
  /** To protocol 2's `ls-refs`. */
  readonly listing?: Answer
  /** To a fetch. */
  readonly fetch?: Answer
}

/** Writes pieces as fast as they are taken, until there are no more or the client is gone. */
export async function pour(response: ServerResponse, pieces: Iterable<Uint8Array>): Promise<void> {
  for (const piece of pieces) {
    if (response.destroyed) return
    if (!response.write(piece)) await taken(response)
  }
  response.end()
}

function taken(response: ServerResponse): Promise<void> {
  return new Promise(resolve => {
    const go = () => {
      response.off('drain', go)
      response.off('close', go)
      resolve()
    }
    response.once('drain', go)
    response.once('close', go)
  })
}
