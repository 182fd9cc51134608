import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Catalog, readCatalog } from '@agirunner/contracts'
import { layerOf, type RegistryOptions, serveRegistry, type TestRegistry } from '@agirunner/test-kit'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import type { ContainerEngine } from '../engine/engine.js'
import { LABELS } from '../engine/labels.js'
import type { ImageRequest, Images, ReadyImage } from '../execution/images/images.js'
import { createImages } from '../execution/images/index.js'
import type { Verification } from '../execution/images/verification.js'
import { hostId, newWorkerId } from '../support/identity.js'
import { Secret } from '../support/secret.js'
import type { Share } from '../support/shared-work.js'

/** A worker's room for images on the real engine, and the registries that a test starts. */
export class ImagesFixture {
  readonly engine: ContainerEngine = dockerEngine({ host: process.env.DOCKER_HOST ?? null, tls: false })
  readonly dataDir = mkdtempSync(join(tmpdir(), 'images-data-'))
  readonly configDir = mkdtempSync(join(tmpdir(), 'images-config-'))
  readonly stack = randomUUID()
  readonly #registries: TestRegistry[] = []

  async registry(options: RegistryOptions = {}): Promise<TestRegistry> {
    const registry = await serveRegistry(options)
    this.#registries.push(registry)
    return registry
  }

  /** A worker that has just started: it knows only what the data folder says. */
  async worker(
    options: { catalog?: Catalog; pullIdleMs?: number; id?: string } = {},
  ): Promise<{ images: Images; verification: Verification }> {
    const { engine, dataDir, configDir: dockerConfigDir, stack } = this
    const { catalog = readCatalog(null), pullIdleMs = 20_000, id = newWorkerId() } = options
    const owner = { worker: id, host: hostId(), stack }
    const info = await engine.info()
    return await createImages(
      { dataDir, catalog, dockerConfigDir, pullIdleMs, isLocal: false },
      { engine, info, owner },
    )
  }

  /** Writes the worker's own Docker config. */
  dockerConfig(config: object): void {
    writeFileSync(join(this.configDir, 'config.json'), JSON.stringify(config))
  }

  /** Removes what was pulled from the registries, so that the next pull is one. */
  forget(): void {
    for (const { host } of this.#registries) {
      const names = docker('images', '--format', '{{.ID}}', '--filter', `reference=${host}/*/*`)
      const ids = [...new Set(names.split('\n').filter(id => id !== ''))]
      if (ids.length > 0) docker('rmi', '-f', ...ids)
    }
  }

  async close(): Promise<void> {
    this.forget()
    for (const registry of this.#registries) await registry.close()
    for (const folder of [this.dataDir, this.configDir]) rmSync(folder, { recursive: true })
    const left = await this.engine.containers(`${LABELS.stack}=${this.stack}`)
    if (left.length > 0) throw new Error(`left behind: ${left.map(({ name }) => name).join(', ')}`)
  }
}

export function docker(...args: readonly string[]): string {
  return execFileSync('docker', args, { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] }).trim()
}

/** A layer that no engine has yet, of so many bytes that don't compress. */
export function newLayer(bytes = 1024): Buffer {
  return layerOf({ 'data.bin': randomBytes(bytes) })
}

export function request(image: string, more: Partial<Omit<ImageRequest, 'credentials'>> = {}): ImageRequest {
  return { image, pullPolicy: 'if_not_present', credentials: null, tenantId: 'acme', ...more }
}

export function withPassword(wanted: ImageRequest, username: string, password: string): ImageRequest {
  return { ...wanted, credentials: { username, password: new Secret(password) } }
}

export const quiet = (): Share => ({ signal: new AbortController().signal, progress: () => undefined })

/** What became of a request: `ok`, or the failure's code and message. */
export async function outcome(ready: Promise<ReadyImage>): Promise<{ code: string; message: string }> {
  return await ready.then(
    () => ({ code: 'ok', message: '' }),
    (error: { code?: string; message: string }) => ({
      code: error.code ?? 'untyped',
      message: error.message,
    }),
  )
}
