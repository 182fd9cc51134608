import { createHash } from 'node:crypto'
import { type Catalog, type ImageReference, type Task, TaskFailure } from '@agirunner/contracts'
import type { ContainerEngine, ImageInfo, RegistryCredentials } from '../../engine/engine.js'
import type { Secret } from '../../support/secret.js'
import { type Share, SharedWork } from '../../support/shared-work.js'
import { withoutSecrets } from '../../workspace/git/credentials.js'
import type { ImageAccess } from './access.js'
import type { DockerConfig, Found } from './docker-config.js'
import { refuseUnfit } from './fit.js'
import type { KnownImages } from './known-images.js'
import { digestOf, hintOf, ownDigest, resolveImage } from './names.js'

/** What a registry has to say is cut after so many characters. */
const MAX_SAID = 1000
/** The operator's deadline for one pull, in milliseconds. */
const PULL_MS = 15 * 60_000

/** What a task says of the image that it wants. */
export interface ImageRequest {
  /** A name of the catalog or a reference. */
  readonly image: string
  readonly pullPolicy: Task['environment']['pullPolicy']
  /** The task's own; null leaves it to the worker's Docker config. */
  readonly credentials: { readonly username: string; readonly password: Secret } | null
  readonly tenantId: string
}

export interface ReadyImage {
  readonly reference: string
  /** `repository@sha256:…` under the name that was asked for; the image's id where no registry gave one. */
  readonly digest: string
  readonly info: ImageInfo
}

export interface ImagesOptions {
  readonly engine: ContainerEngine
  readonly images: Pick<KnownImages, 'image' | 'forget'>
  readonly catalog: Catalog
  readonly access: ImageAccess
  readonly dockerConfig: DockerConfig
  /** How long nothing may come of a pull, in milliseconds. */
  readonly pullIdleMs: number
}

const NOTHING_SHOWN: Found = { credentials: null, problem: null }

/** A request with what its name stands for. */
interface Wanted extends ImageRequest {
  readonly reference: ImageReference
  /**
   * What a registry is shown, once one is asked: most tasks need none, and the worker's own credentials may come from a
   * program. Null until then.
   */
  shown: Promise<Found> | null
}

/**
 * Makes sure that images are on the engine's machine and that who asks may have them. Tasks that want the same by the
 * same credentials share one pull; it ends when none of them waits any more.
 */
export class Images {
  readonly #options: ImagesOptions
  readonly #pulls = new SharedWork<void>()

  constructor(options: ImagesOptions) {
    this.#options = options
  }

  /** The reference that a name stands for. @throws TaskFailure `spec.invalid` for what names no image */
  referenceOf(image: string): string {
    return resolveImage(this.#options.catalog, image).text
  }

  /** @throws TaskFailure `spec.invalid` for what names no image */
  check(image: string): void {
    resolveImage(this.#options.catalog, image)
  }

  /**
   * @param share.progress told `{currentBytes, totalBytes}` of a pull
   * @throws TaskFailure `spec.invalid`, `image.*`, `engine.unavailable`, or the signal's reason
   */
  async ready(request: ImageRequest, share: Share): Promise<ReadyImage> {
    const reference = resolveImage(this.#options.catalog, request.image)
    const wanted: Wanted = { ...request, reference, shown: null }
    try {
      const info = await this.#obtain(wanted, share)
      refuseUnfit(wanted.reference.text, info)
      return { reference: wanted.reference.text, digest: digestOf(wanted.reference, info), info }
    } catch (error) {
      throw error instanceof TaskFailure ? this.#tidy(error, wanted, await wanted.shown) : error
    }
  }

  /** The task's own credentials, else the worker's. */
  async #credentials(wanted: Wanted): Promise<RegistryCredentials | null> {
    const { credentials, reference } = wanted
    wanted.shown ??= credentials
      ? Promise.resolve({ credentials, problem: null })
      : this.#options.dockerConfig.credentialsFor(reference.registry)
    return (await wanted.shown).credentials
  }

  async #obtain(wanted: Wanted, share: Share): Promise<ImageInfo> {
    const { images } = this.#options
    const { reference, pullPolicy } = wanted
    const known = await images.image(reference.text)
    if (known && pullPolicy !== 'always' && (await this.#mayUse(known, wanted, share.signal))) return known
    if (pullPolicy === 'never') {
      throw new TaskFailure(
        'image.not_found',
        `image "${reference.text}" is not on this machine and pullPolicy is "never"`,
      )
    }
    try {
      return await this.#pull(wanted, share)
    } catch (error) {
      throw known && pullPolicy === 'always' && error instanceof TaskFailure ? olderOne(error) : error
    }
  }

  /** What came by other tenants' credentials is given only to who shows to its registry that he may have it. */
  async #mayUse(info: ImageInfo, wanted: Wanted, signal: AbortSignal): Promise<boolean> {
    const { engine, access } = this.#options
    const { reference, credentials, tenantId, pullPolicy } = wanted
    if (await access.mayUse(info.id, reference.repository, tenantId)) return true
    const digest = ownDigest(reference, info)
    // Whatever cannot be shown counts as not there, and so does what was shown not to be so.
    if (digest === null) return false
    try {
      await engine.askRegistry(digest, { credentials: await this.#credentials(wanted), signal })
    } catch (error) {
      if (pullPolicy === 'never' && error instanceof TaskFailure) return false
      throw error
    }
    if (credentials === null) await access.openToAll(info.id, reference.repository)
    else await access.grant(info.id, tenantId)
    return true
  }

  async #pull(wanted: Wanted, share: Share): Promise<ImageInfo> {
    const { access } = this.#options
    const { reference, credentials, tenantId } = wanted
    if (credentials !== null) {
      return await access.duringPull(reference.repository, tenantId, () => this.#pullShared(wanted, share))
    }
    const info = await this.#pullShared(wanted, share)
    await access.openToAll(info.id, reference.repository)
    return info
  }

  async #pullShared(wanted: Wanted, share: Share): Promise<ImageInfo> {
    const { engine, pullIdleMs } = this.#options
    const { reference } = wanted
    const by = await this.#credentials(wanted)
    const late = new TaskFailure(
      'image.pull_failed',
      `image "${reference.text}" could not be pulled within ${PULL_MS / 60_000} minutes`,
    )
    const work = async ({ signal, progress }: Share) => {
      const deadline = AbortSignal.timeout(PULL_MS)
      try {
        await engine.pull(reference.text, {
          credentials: by,
          progress: sums => progress({ ...sums }),
          idleMs: pullIdleMs,
          signal: AbortSignal.any([signal, deadline]),
        })
      } catch (error) {
        throw deadline.aborted ? late : error
      }
    }
    await this.#pulls.join(`${reference.text} ${identityOf(by)}`, work, share)
    return await this.#pulled(reference)
  }

  async #pulled({ text }: ImageReference): Promise<ImageInfo> {
    const { images } = this.#options
    images.forget()
    const info = await images.image(text)
    if (info) return info
    throw new TaskFailure('image.pull_failed', `image "${text}" was pulled, but the engine does not know it`)
  }

  /** A failure without the credentials that a registry may quote, short, and with what may help. */
  #tidy(failure: TaskFailure, { image }: Wanted, shown: Found | null): TaskFailure {
    const { credentials: by, problem } = shown ?? NOTHING_SHOWN
    const said = by === null ? failure.message : revealed(by).reduce(hide, failure.message)
    const short = said.replaceAll(/\s+/g, ' ').slice(0, MAX_SAID)
    const isRefused = failure.code === 'image.auth_failed' || failure.code === 'image.not_found'
    const message = isRefused && problem !== null ? `${short}; ${problem}` : short
    const { hint } = hintOf(this.#options.catalog, image)
    return new TaskFailure(failure.code, message, {
      ...(failure.phase === null ? {} : { phase: failure.phase }),
      hint: hint ?? failure.hint,
    })
  }
}

type Hidden = { readonly username: string; readonly password: string }

function revealed(by: RegistryCredentials): Hidden[] {
  if ('identityToken' in by) return [{ username: '', password: by.identityToken.reveal().toString() }]
  return [{ username: by.username, password: by.password.reveal().toString() }]
}

function hide(text: string, secret: Hidden): string {
  return withoutSecrets(text, secret)
}

/** Tells credentials apart in the memory of this process; it is never shown. */
function identityOf(by: RegistryCredentials | null): string {
  if (by === null) return ''
  const secrets = revealed(by).map(({ username, password }) => [username, password])
  return createHash('sha256').update(JSON.stringify(secrets)).digest('hex')
}

/** `always` does not settle for what is here already, and says so. */
function olderOne(failure: TaskFailure): TaskFailure {
  if (failure.code !== 'image.pull_failed') return failure
  const message = `${failure.message}; the one that is on this machine may be old, so pullPolicy "always" does not use it`
  return new TaskFailure(failure.code, message, { hint: 'use pullPolicy "if_not_present", or try again' })
}
