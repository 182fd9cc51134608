import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type BuiltImage, buildImage, type TestImage } from './image.js'
import { type HonestAnswer, MISBEHAVIOURS, type MisbehaviourKind } from './misbehaviour.js'

/** What is asked of a registry: whether it is one, a token, a manifest, a blob. */
export type RegistryPart = 'ping' | 'token' | 'manifest' | 'blob'

export interface RegistryRequest {
  readonly part: RegistryPart
  readonly method: string
  readonly url: string
  readonly authorization: string | null
}

export interface RegistryOptions {
  /** Who may pull what is not in `open`; by default everybody may pull everything. */
  readonly auth?: {
    readonly username: string
    readonly password: string
    /** `basic` asks on every request, `bearer` hands out tokens as the large registries do. */
    readonly scheme: 'basic' | 'bearer'
    /** Repositories that need no credentials; with `basic` there are none. */
    readonly open?: readonly string[]
  }
}

export interface TestRegistry {
  /** Host and port, as the first part of a reference. */
  readonly host: string
  /** What was asked so far. */
  readonly asked: readonly RegistryRequest[]
  /** How many requests wait for the rest of their answer. */
  readonly pending: () => number
  /** @returns the digest by which it may be pulled too */
  publish(repository: string, tag: string, image: TestImage | BuiltImage): string
  /**
   * From now on one kind of request, or every one, is answered so; null ends it.
   *
   * @param options.times how often
   * @param options.from only where an honest answer has so many bytes
   */
  misbehave(
    kind: MisbehaviourKind | null,
    options?: { on?: RegistryPart; times?: number; from?: number },
  ): void
  /** Called before a request of that part is answered, which waits for it. */
  before(part: RegistryPart, wait: () => Promise<void>): void
  close(): Promise<void>
}

const API = { 'docker-distribution-api-version': 'registry/2.0' }

/**
 * Serves images on a free port of 127.0.0.1, as much of the registry protocol as pulling takes. Engines speak plain HTTP
 * to that address by default.
 *
 * @example
 * const registry = await serveRegistry()
 * registry.publish('acme/app', '1', { layers: [tar] })
 * // docker pull ${registry.host}/acme/app:1
 */
export async function serveRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const registry = new Registry(options)
  const server = createServer((request, response) => {
    response.on('error', () => undefined)
    registry.pending += 1
    response.on('close', () => {
      registry.pending -= 1
    })
    registry.serve(request, response).catch((error: unknown) => response.destroy(error as Error))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  registry.host = host
  return {
    host,
    asked: registry.asked,
    pending: () => registry.pending,
    publish: (...args) => registry.publish(...args),
    misbehave: (kind, { on, times = Number.POSITIVE_INFINITY, from = 0 } = {}) => {
      registry.bad = kind === null ? null : { kind, on: on ?? null, left: times, from }
    },
    before: (part, wait) => void registry.waits.set(part, wait),
    close: async () => {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

class Registry {
  host = ''
  pending = 0
  bad: { kind: MisbehaviourKind; on: RegistryPart | null; left: number; from: number } | null = null
  readonly asked: RegistryRequest[] = []
  readonly waits = new Map<RegistryPart, () => Promise<void>>()
  readonly #options: RegistryOptions
  /** By `repository:tag` and `repository@digest`. */
  readonly #manifests = new Map<string, BuiltImage['manifest']>()
  /** By `repository@digest`. */
  readonly #blobs = new Map<string, BuiltImage['manifest']>()

  constructor(options: RegistryOptions) {
    this.#options = options
  }

  publish(repository: string, tag: string, image: TestImage | BuiltImage): string {
    const { manifest, blobs } = 'manifest' in image ? image : buildImage(image)
    this.#manifests.set(`${repository}:${tag}`, manifest)
    for (const blob of [manifest, ...blobs]) {
      this.#blobs.set(`${repository}@${blob.digest}`, blob)
      if (blob.mediaType.includes('manifest')) this.#manifests.set(`${repository}@${blob.digest}`, blob)
    }
    return manifest.digest
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request
    const part = partOf(url)
    this.asked.push({ part, method, url, authorization: headers.authorization ?? null })
    await this.waits.get(part)?.()
    const honest = this.#answer(part, url, headers.authorization ?? '')
    const { bad } = this
    if (bad !== null && (bad.on ?? part) === part && bad.left > 0 && honest.body.length >= bad.from) {
      bad.left -= 1
      return MISBEHAVIOURS[bad.kind](response, honest)
    }
    response.writeHead(honest.status, honest.headers)
    response.end(method === 'HEAD' ? undefined : honest.body)
  }

  #answer(part: RegistryPart, url: string, authorization: string): HonestAnswer {
    if (part === 'token') return this.#token(url, authorization)
    const [, repository = '', , reference = ''] =
      /^\/v2\/(.+)\/(manifests|blobs)\/([^/?]+)/.exec(decodeURIComponent(url)) ?? []
    if (!this.#mayPull(repository, authorization)) return this.#challenge()
    if (part === 'ping') return { status: 200, headers: API, body: Buffer.from('{}') }
    const known = part === 'manifest' ? this.#manifests : this.#blobs
    const blob = known.get(`${repository}${reference.startsWith('sha256:') ? '@' : ':'}${reference}`)
    if (!blob) return missing(part)
    const headers = { ...API, 'content-type': blob.mediaType, 'docker-content-digest': blob.digest }
    return {
      status: 200,
      headers: { ...headers, 'content-length': String(blob.bytes.length) },
      body: blob.bytes,
    }
  }

  #mayPull(repository: string, authorization: string): boolean {
    const { auth } = this.#options
    if (!auth) return true
    if (auth.scheme === 'basic') return authorization === basic(auth)
    return authorization === 'Bearer all' || (authorization === 'Bearer open' && this.#isOpen(repository))
  }

  #isOpen(repository: string): boolean {
    return (this.#options.auth?.open ?? []).includes(repository)
  }

  #challenge(): HonestAnswer {
    const realm =
      this.#options.auth?.scheme === 'basic'
        ? 'Basic realm="test"'
        : `Bearer realm="http://${this.host}/token",service="test"`
    const errors = [{ code: 'UNAUTHORIZED', message: 'authentication required', detail: null }]
    return answer(401, { errors }, { 'www-authenticate': realm })
  }

  /** Without credentials a token for what is open; the token itself says nothing of what was asked for. */
  #token(_url: string, authorization: string): HonestAnswer {
    const { auth } = this.#options
    if (authorization === '') return answer(200, { token: 'open' })
    if (auth && authorization === basic(auth)) return answer(200, { token: 'all' })
    return answer(401, { details: 'incorrect username or password' })
  }
}

function partOf(url: string): RegistryPart {
  if (url.startsWith('/token')) return 'token'
  if (url.includes('/manifests/')) return 'manifest'
  return url.includes('/blobs/') ? 'blob' : 'ping'
}

function missing(part: RegistryPart): HonestAnswer {
  const code = part === 'manifest' ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN'
  return answer(404, { errors: [{ code, message: `${part} unknown`, detail: null }] })
}

function answer(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): HonestAnswer {
  const type = { 'content-type': 'application/json' }
  return { status, headers: { ...API, ...type, ...headers }, body: Buffer.from(JSON.stringify(body)) }
}

function basic({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}
