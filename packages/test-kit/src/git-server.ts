import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { cleanEnvironment } from './git.js'

export interface GitServerOptions {
  /** The folder whose `*.git` repositories are served. */
  readonly root: string
  /** Asked for by HTTP Basic when given. */
  readonly auth?: { readonly username: string; readonly password: string }
}

export interface GitRequest {
  readonly method: string
  /** Path and query as they were asked for. */
  readonly url: string
  /** The `Git-Protocol` header, such as `version=2`. */
  readonly protocol: string | null
  /** The status that was answered, null until then. */
  status: number | null
}

export interface GitServer {
  /** `url + '/name.git'` is the address of a repository. */
  readonly url: string
  /** Every request so far, in the order of arrival. */
  readonly requests: readonly GitRequest[]
  /** Ends the server and whatever it is still answering. */
  close(): Promise<void>
}

/** Any commit may be asked for by its id, as on the large hosts, and pushes are taken. */
const SERVER_CONFIG = {
  'uploadpack.allowAnySHA1InWant': 'true',
  'uploadpack.allowFilter': 'true',
  'http.receivepack': 'true',
}

/**
 * Serves bare repositories over smart HTTP (protocols 0 to 2) on a free port of 127.0.0.1, with the real
 * `git http-backend`. Both directions stream; any number of requests run at once.
 *
 * @example
 * const server = await serveGit({ root })
 * await git(['clone', `${server.url}/demo.git`, target])
 */
export async function serveGit({ root, auth }: GitServerOptions): Promise<GitServer> {
  const requests: GitRequest[] = []
  const backends = new Set<ChildProcess>()
  const server = createServer((request, response) => {
    const record: GitRequest = {
      method: request.method ?? '',
      url: request.url ?? '',
      protocol: headerOf(request, 'git-protocol'),
      status: null,
    }
    requests.push(record)
    response.on('close', () => (record.status = response.statusCode))
    if (auth && !isAllowed(request, auth)) return refuse(request, response)
    const backend = startBackend(root, request, auth?.username)
    backends.add(backend)
    backend.on('close', () => backends.delete(backend))
    void answer(backend, request, response)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () => closeServer(server, backends),
  }
}

function headerOf(request: IncomingMessage, name: string): string | null {
  const value = request.headers[name]
  return typeof value === 'string' ? value : null
}

function isAllowed(
  request: IncomingMessage,
  { username, password }: { username: string; password: string },
): boolean {
  const expected = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
  const digest = (value: string) => createHash('sha256').update(value).digest()
  return timingSafeEqual(digest(request.headers.authorization ?? ''), digest(expected))
}

function refuse(request: IncomingMessage, response: ServerResponse): void {
  request.resume()
  response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="git"' }).end('authentication is needed\n')
}

/** CGI (RFC 3875): the request's line and headers are the program's environment, its body the program's stdin. */
function startBackend(root: string, request: IncomingMessage, user: string | undefined) {
  const { pathname, search } = new URL(request.url ?? '/', 'http://localhost')
  const protocol = headerOf(request, 'git-protocol')
  const optional = {
    CONTENT_TYPE: headerOf(request, 'content-type'),
    CONTENT_LENGTH: headerOf(request, 'content-length'),
    HTTP_CONTENT_ENCODING: headerOf(request, 'content-encoding'),
    GIT_PROTOCOL: protocol,
    REMOTE_USER: user ?? null,
  }
  const given = Object.entries(optional).filter((entry): entry is [string, string] => entry[1] !== null)
  return spawn('git', ['http-backend'], {
    env: {
      ...cleanEnvironment(SERVER_CONFIG),
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: '1',
      REQUEST_METHOD: request.method ?? 'GET',
      PATH_INFO: decode(pathname),
      QUERY_STRING: search.slice(1),
      REMOTE_ADDR: '127.0.0.1',
      ...Object.fromEntries(given),
    },
    stdio: ['pipe', 'pipe', 'ignore'],
  })
}

/** A path that is not well-formed is given on as it is: the backend finds nothing there. */
function decode(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    return path
  }
}

async function answer(
  backend: ReturnType<typeof startBackend>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  // A client that goes away must not leave a pack being made for nobody.
  response.on('close', () => backend.kill())
  const { stdin, stdout } = backend
  // A backend that has read enough closes its stdin; its answer says what it made of it.
  const sent = pipeline(request, stdin, { end: true }).catch(() => undefined)
  try {
    const head = await readHead(stdout)
    response.writeHead(head.status, head.headers)
    response.write(head.rest)
    await pipeline(stdout, response)
  } catch {
    if (!response.headersSent) response.writeHead(500).end()
    else response.destroy()
  }
  await sent
}

interface Head {
  readonly status: number
  readonly headers: Record<string, string>
  /** What was read beyond the head. */
  readonly rest: Buffer
}

async function readHead(stdout: Readable): Promise<Head> {
  let read = Buffer.alloc(0)
  for (;;) {
    const end = read.indexOf('\r\n\r\n')
    if (end >= 0) return { ...parseHead(read.toString('latin1', 0, end)), rest: read.subarray(end + 4) }
    const chunk = stdout.read() as Buffer | null
    if (chunk !== null) read = Buffer.concat([read, chunk])
    else if (stdout.readableEnded || stdout.destroyed)
      throw new Error('git http-backend ended without an answer')
    else await Promise.race([once(stdout, 'readable'), once(stdout, 'end')])
  }
}

function parseHead(text: string): { status: number; headers: Record<string, string> } {
  const headers: Record<string, string> = {}
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':')
    headers[line.slice(0, colon)] = line.slice(colon + 1).trim()
  }
  const { Status: status = '200', ...others } = headers
  return { status: Number.parseInt(status, 10), headers: others }
}

async function closeServer(server: Server, backends: ReadonlySet<ChildProcess>): Promise<void> {
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await Promise.all([...backends].map(backend => ended(backend)))
  await closed
}

async function ended(child: ChildProcess): Promise<void> {
  child.kill()
  if (child.exitCode === null && child.signalCode === null) await once(child, 'close')
}
