import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import {
  type AddressInfo,
  createServer as createSocketServer,
  type Socket,
  type Server as SocketServer,
} from 'node:net'
import { text } from 'node:stream/consumers'
import { HTTP_SCRIPTS } from './http-scripts.js'
import { PACK_SCRIPTS } from './pack-scripts.js'
import { discovery, fetched, HONEST_OFFER, listing, type Offer } from './protocol.js'
import { REFS_SCRIPTS } from './refs-scripts.js'
import type { Answer, Script } from './script.js'
import { TREE_SCRIPTS } from './tree-scripts.js'

const SCRIPTS = { ...HTTP_SCRIPTS, ...REFS_SCRIPTS, ...PACK_SCRIPTS, ...TREE_SCRIPTS }
/** What a hostile server can do: the names of the scripts in this folder's `*-scripts.ts`. */
export type HostileKind = keyof typeof SCRIPTS

export interface Asked {
  readonly method: string
  /** Path and query. */
  readonly url: string
  readonly authorization: string | null
}

export interface HostileGit {
  /** The address of the repository that behaves so. */
  at(kind: HostileKind): string
  /** What was asked so far, in the order of arrival. */
  readonly asked: readonly Asked[]
  /** Where nobody listens. */
  readonly refusing: string
  /** Where connections are taken and nothing is ever said: for TLS, they are never made. */
  readonly mute: string
  close(): Promise<void>
}

/**
 * Serves one hostile repository for each kind on free ports of 127.0.0.1: a git server of its own that speaks protocols
 * 0 to 2 well enough for the real git, and differs from an honest one in exactly what the kind names.
 *
 * @example
 * const hostile = await serveHostileGit()
 * await git(['clone', hostile.at('reset-in-a-pack'), target]) // fails
 */
export async function serveHostileGit(): Promise<HostileGit> {
  const asked: Asked[] = []
  const scripts = new Map<string, Script>()
  const server = createServer((request, response) => {
    const { method = '', url = '', headers } = request
    asked.push({ method, url, authorization: headers.authorization ?? null })
    // A client that goes away is what most of the scripts are for.
    response.on('error', () => undefined)
    answer(scripts, request, response).catch((error: unknown) => response.destroy(error as Error))
  })
  const muted = new Set<Socket>()
  const mute = createSocketServer(socket => muted.add(socket.on('error', () => undefined)))
  const [port, mutePort] = [await listen(server), await listen(mute)]
  const gone = createSocketServer()
  const refusingPort = await listen(gone)
  gone.close()
  return {
    at: kind => {
      // Here, because making a bomb takes longer than an honest server may take to answer.
      if (!scripts.has(kind)) scripts.set(kind, scriptOf(kind))
      return `http://127.0.0.1:${port}/${kind}.git`
    },
    asked,
    refusing: `http://127.0.0.1:${refusingPort}/x.git`,
    mute: `https://127.0.0.1:${mutePort}/x.git`,
    close: async () => {
      mute.close()
      for (const socket of muted) socket.destroy()
      await closeServer(server)
    },
  }
}

async function answer(
  scripts: ReadonlyMap<string, Script>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  const [, kind = '', rest = ''] = /^\/([\w-]+)\.git(\/.*)$/.exec(pathname) ?? []
  const script = scripts.get(kind)
  if (!script) return void response.writeHead(404).end()
  const offer: Offer = { ...HONEST_OFFER, ...script.offer }
  const body = await text(request)
  const version = request.headers['git-protocol']?.includes('version=2') ? 2 : 0
  const play = (scripted: Answer | undefined, type: string, honest: Buffer) => {
    response.setHeader('content-type', `application/x-git-upload-pack-${type}`)
    if (scripted) return scripted({ request, response, path: `/${kind}.git`, body, honest })
    return void response.end(honest)
  }
  if (rest === '/info/refs') await play(script.discovery, 'advertisement', discovery(offer, version))
  else if (body.includes('command=ls-refs')) await play(script.listing, 'result', listing(offer))
  else await play(script.fetch, 'result', fetched(offer, body))
}

function scriptOf(kind: HostileKind): Script {
  const script: Script | (() => Script) = SCRIPTS[kind]
  return typeof script === 'function' ? script() : script
}

async function listen(server: SocketServer): Promise<number> {
  server.listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  return (server.address() as AddressInfo).port
}

async function closeServer(server: Server): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
}
