import type { Socket } from 'node:net'
import { MAX_HELLO, readHello } from './client-hello.js'

/** In how many pieces a ClientHello may arrive: each is looked at with all before it. */
const MAX_PIECES = 128

export interface TunnelOptions {
  /** Without a byte in either direction for so long, both sides are closed. In milliseconds. */
  readonly idleMs: number
  /** How long a client that began a ClientHello may take for the rest of it, in milliseconds. */
  readonly helloMs: number
  /** Whether a TLS client may ask for this name. */
  readonly allowsName: (name: string) => boolean
  /** Told the name that was asked for, or null for a ClientHello that can't be read; both sides are closed then. */
  readonly onDenied: (name: string | null) => void
}

/**
 * Joins a client with the server that it asked for, once the client's first bytes have been looked at: a TLS connection
 * may name no server that the task may not reach. What the server says first is passed on at once.
 */
export function joinTunnel(client: Socket, server: Socket, options: TunnelOptions): void {
  const close = () => {
    client.destroy()
    server.destroy()
  }
  for (const side of [client, server]) {
    side.on('error', close)
    side.setTimeout(options.idleMs, close)
  }
  // What is on its way to the other side still goes there.
  server.on('close', () => client.destroySoon())
  client.on('close', () => server.destroySoon())
  if (server.destroyed) return client.destroySoon()
  server.pipe(client)
  inspect(client, options, {
    passed: head => {
      if (head.length > 0) server.write(head)
      client.pipe(server)
    },
    refused: name => {
      options.onDenied(name)
      close()
    },
  })
}

/** Holds the client's bytes back until they are told to be harmless. */
function inspect(
  client: Socket,
  options: TunnelOptions,
  verdict: { passed: (head: Buffer) => void; refused: (name: string | null) => void },
): void {
  let bytes: Buffer = Buffer.alloc(0)
  let pieces = 0
  let late: NodeJS.Timeout | undefined
  const done = () => {
    clearTimeout(late)
    client.off('data', look)
    client.off('end', ended)
    client.pause()
  }
  const look = (chunk: Buffer) => {
    late ??= setTimeout(() => refuse(null), options.helloMs)
    bytes = Buffer.concat([bytes, chunk])
    pieces += 1
    const hello = readHello(bytes)
    if (hello.type === 'partial' && pieces < MAX_PIECES && bytes.length <= MAX_HELLO) return
    if (hello.type === 'partial' || hello.type === 'broken') return refuse(null)
    const bad = hello.type === 'tls' ? hello.names.find(name => !options.allowsName(name)) : undefined
    if (bad !== undefined) return refuse(bad)
    done()
    verdict.passed(bytes)
  }
  const refuse = (name: string | null) => {
    done()
    verdict.refused(name)
  }
  const ended = () => {
    done()
    verdict.passed(bytes)
  }
  client.on('data', look)
  client.on('end', ended)
  client.on('close', done)
}
