import { once } from 'node:events'
import { request as ask, createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What becomes of a push on its way. */
export type Mishap =
  | 'none'
  /** The connection breaks before the server has seen anything. */
  | 'break-before'
  /** It breaks when some of the pack has come. */
  | 'break-within'
  /** The server takes it, and its answer is lost. */
  | 'lose-answer'
  /** Nothing is said, as long as the client waits. */
  | 'hold'
  /** Its answer comes without its end. */
  | 'cut-answer'
  | 'garbage'
  | `status-${number}`

export interface PushProxy {
  readonly url: string
  /** Called with what comes; gives what happens to each push. */
  mishap: (push: number) => Mishap
  /** `info/refs` for a push is redirected there; null for not at all. */
  redirectTo: string | null
  /** Whether the server can't be asked any more once a push has come. */
  isGone: boolean
  /** Pushes so far. */
  readonly pushes: number
  /** Resolves when a push has come. */
  readonly arrived: Promise<unknown>
  close(): Promise<void>
}

/** Stands between a client and a git server, and spoils pushes. */
export async function startPushProxy(target: string): Promise<PushProxy> {
  let arrived: () => void = () => undefined
  let pushes = 0
  const server = createServer((request, response) => {
    response.on('error', () => undefined)
    const { url = '', method } = request
    if (method === 'GET' && url.includes('service=git-receive-pack') && proxy.redirectTo !== null)
      return void response.writeHead(302, { location: proxy.redirectTo + url }).end()
    if (proxy.isGone && pushes > 0) return void request.destroy()
    if (!url.endsWith('/git-receive-pack')) return forward(target, request, response, 'none')
    pushes += 1
    arrived()
    forward(target, request, response, proxy.mishap(pushes))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const proxy: PushProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    mishap: () => 'none',
    redirectTo: null,
    isGone: false,
    get pushes() {
      return pushes
    },
    arrived: new Promise<void>(resolve => {
      arrived = resolve
    }),
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return proxy
}

function forward(target: string, request: IncomingMessage, response: ServerResponse, mishap: Mishap): void {
  const status = /^status-(\d+)$/.exec(mishap)?.[1]
  if (status !== undefined) {
    request.resume().on('end', () => response.writeHead(Number(status)).end())
    return
  }
  if (mishap === 'hold') return
  if (mishap === 'break-before') return void request.destroy()
  if (mishap === 'break-within') return void request.once('data', () => request.destroy())
  if (mishap === 'garbage') {
    request.resume().on('end', () => response.end('<html>Welcome</html>'))
    return
  }
  const { method, headers, url } = request
  const onward = ask(
    `${target}${url}`,
    { method, headers: { ...headers, host: new URL(target).host } },
    answer => {
      if (mishap === 'lose-answer') return void answer.resume().on('end', () => request.socket.destroy())
      const { 'content-length': _length, ...others } = answer.headers
      response.writeHead(answer.statusCode ?? 500, others)
      if (mishap === 'cut-answer') answer.once('data', () => request.socket.destroy())
      else answer.pipe(response)
    },
  )
  onward.on('error', () => response.destroy())
  request.on('error', () => onward.destroy()).pipe(onward)
}
