import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { RegistryCredentials } from '../../engine/engine.js'
import { messageOf } from '../../support/log.js'
import { Secret } from '../../support/secret.js'

/** What the default registry is called in these files, for historical reasons. */
const DEFAULT_KEY = 'https://index.docker.io/v1/'
const HELPER = /^[A-Za-z0-9._-]+$/
const HELPER_MS = 20_000
/** A helper says this name when the secret beside it is no password but a token. */
const TOKEN_USER = '<token>'

const EntrySchema = z.object({
  auth: z.string().optional(),
  username: z.string().optional(),
  password: z.string().optional(),
  identitytoken: z.string().optional(),
})
const FileSchema = z.object({
  auths: z.record(z.string(), EntrySchema).default({}),
  credsStore: z.string().default(''),
  credHelpers: z.record(z.string(), z.string()).default({}),
})
const HelperSchema = z.object({ Username: z.string(), Secret: z.string() })

/** What the worker's own Docker config has for a registry. */
export interface Found {
  readonly credentials: RegistryCredentials | null
  /** Why credentials that the config speaks of could not be had; null when all is well. Never holds a secret. */
  readonly problem: string | null
}

const NOTHING: Found = { credentials: null, problem: null }

/**
 * The worker's own `config.json` of Docker: `auths`, `credHelpers` and `credsStore`. dockerode reads none of it. The file
 * and the helpers are asked each time, because tokens in them are renewed under a worker that runs for weeks.
 */
export class DockerConfig {
  readonly #folder: string

  /** @param folder as DOCKER_CONFIG names it */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** @param registry host and port, `docker.io` for the default one */
  async credentialsFor(registry: string): Promise<Found> {
    const file = join(this.#folder, 'config.json')
    const text = await readFile(file, 'utf8').catch(() => null)
    if (text === null) return NOTHING
    try {
      const config = FileSchema.parse(JSON.parse(text))
      return (await fromHelper(config, registry)) ?? fromFile(config.auths, registry)
    } catch {
      // Neither a parser's nor a schema's words: they may quote the file.
      return { credentials: null, problem: `the worker's ${file} is not what Docker writes there` }
    }
  }
}

async function fromHelper(
  { credsStore, credHelpers }: z.output<typeof FileSchema>,
  registry: string,
): Promise<Found | null> {
  const own = Object.entries(credHelpers).find(([key]) => isFor(key, registry))
  const [key, helper] = own ?? [registry === 'docker.io' ? DEFAULT_KEY : registry, credsStore]
  if (helper === '' || !HELPER.test(helper)) return null
  try {
    const { Username: username, Secret: secret } = HelperSchema.parse(JSON.parse(await ask(helper, key)))
    if (secret === '') return null
    if (username === TOKEN_USER) return { credentials: { identityToken: new Secret(secret) }, problem: null }
    return { credentials: { username, password: new Secret(secret) }, problem: null }
  } catch (error) {
    if (/credentials not found/i.test(messageOf(error))) return null
    const problem = `docker-credential-${helper}, which the worker's Docker config names, gave no credentials`
    return { credentials: null, problem }
  }
}

/** Helpers read the registry from their input and print JSON; what they have to say of a failure is on stdout too. */
function ask(helper: string, key: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: HELPER_MS, killSignal: 'SIGKILL', maxBuffer: 2 ** 20 } as const
    const child = execFile(`docker-credential-${helper}`, ['get'], options, (error, stdout) => {
      if (error) reject(new Error(/credentials not found/i.exec(stdout)?.[0] ?? 'it failed'))
      else resolve(stdout)
    })
    // One that ends without reading breaks the pipe; its end tells more.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(key)
  })
}

function fromFile(auths: z.output<typeof FileSchema>['auths'], registry: string): Found {
  const [, entry] = Object.entries(auths).find(([key]) => isFor(key, registry)) ?? []
  if (!entry) return NOTHING
  if (entry.identitytoken)
    return { credentials: { identityToken: new Secret(entry.identitytoken) }, problem: null }
  const pair = entry.auth ? Buffer.from(entry.auth, 'base64').toString('utf8') : ''
  const colon = pair.indexOf(':')
  const username = entry.username ?? (colon === -1 ? '' : pair.slice(0, colon))
  const password = entry.password ?? (colon === -1 ? '' : pair.slice(colon + 1).replace(/\0+$/, ''))
  if (username === '' || password === '') return NOTHING
  return { credentials: { username, password: new Secret(password) }, problem: null }
}

/** Keys are hosts, with or without a scheme and a path. */
function isFor(key: string, registry: string): boolean {
  const host = key.replace(/^https?:\/\//, '').replace(/\/.*$/, '')
  if (registry === 'docker.io') return ['docker.io', 'index.docker.io', 'registry-1.docker.io'].includes(host)
  return host === registry
}
