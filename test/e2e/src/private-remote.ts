import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'

/** Says what happens to a fetch that came with credentials; ends the response, or lets it go on to the real server. */
export type AtFetch = (response: ServerResponse, authorization: string) => Promise<void> | void

export interface PrivateRemote {
  /** `url + '/name.git'` is the address of a repository. */
  readonly url: string
  /** Which credentials have come, each once. */
  readonly authorizations: ReadonlySet<string>
  /** What to do at the next fetches; nothing by default. */
  atFetch: AtFetch
  close(): Promise<void>
}

const PASSED_ON = ['authorization', 'content-type', 'accept', 'git-protocol']

/** Stands in front of a git server that asks for credentials, to see what comes and to stop what is fetched. */
export async function startPrivateRemote(behind: string): Promise<PrivateRemote> {
  const authorizations = new Set<string>()
  const server = createServer((request, response) => {
    pass(request, response).catch(() => response.destroy())
  })
  const remote: PrivateRemote & { url: string } = {
    url: '',
    authorizations,
    atFetch: () => undefined,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }

  async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { authorization } = request.headers
    const body = await buffer(request)
    if (authorization !== undefined) authorizations.add(authorization)
    if (authorization !== undefined && body.includes('want ')) {
      await remote.atFetch(response, authorization)
      if (response.writableEnded) return
    }
    await forward(behind, request, body, response)
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  remote.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return remote
}

async function forward(
  behind: string,
  { method = 'GET', url = '/', headers }: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
): Promise<void> {
  const given = PASSED_ON.flatMap(name => {
    const value = headers[name]
    return typeof value === 'string' ? [[name, value] as [string, string]] : []
  })
  const answer = await fetch(behind + url, {
    method,
    headers: given,
    ...(body.length > 0 ? { body: new Uint8Array(body) } : {}),
  })
  const passed = ['content-type', 'www-authenticate'].flatMap(name => answer.headers.get(name) ?? [])
  response.statusCode = answer.status
  if (passed[0] !== undefined) response.setHeader('content-type', passed[0])
  if (answer.status === 401) response.setHeader('www-authenticate', 'Basic realm="git"')
  response.end(Buffer.from(await answer.arrayBuffer()))
}
