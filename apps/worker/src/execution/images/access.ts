import { createHash, randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import { z } from 'zod'
import type { ContainerEngine, ImageSummary } from '../../engine/engine.js'
import { isAlive } from '../../support/identity.js'
import { repositoryOf } from './names.js'

/** What a pull that was given up could still bring has come after so long, in milliseconds. */
const LINGER_MS = 60_000
/** A record that can't be read lets nobody use the image who does not show anew that he may. */
const NOBODY = { open: false, tenants: [] }

/** Who may use an image that came by a task's credentials; `open` once a pull without any gave the same content. */
const RecordSchema = z.object({ open: z.boolean(), tenants: z.array(z.string()) })
type AccessRecord = z.output<typeof RecordSchema>

/** That a pull by a task's credentials is or was under way, and what the engine had before. */
const IntentSchema = z.object({
  worker: z.string(),
  repository: z.string(),
  known: z.array(z.string()),
  /** When it began, in milliseconds since 1970. */
  at: z.number(),
})
type Intent = z.output<typeof IntentSchema>

export interface AccessOptions {
  readonly engine: ContainerEngine
  /** The worker's data folder; workers that share an engine share it. */
  readonly dataDir: string
  /** This worker's id. */
  readonly worker: string
}

/**
 * Remembers on disk which images came to the engine by a task's own credentials, and which tenants have shown that they
 * may have them. An engine gives what it has to whoever names it; without this, a second tenant would get a private image
 * by naming it (Kubernetes KEP-2535 tells the same story, and solves it likewise).
 *
 * Records are kept by the image's id, which is its content: whoever may have the content may have it under any name.
 * What the engine had before is never taken from those who could use it.
 */
export class ImageAccess {
  readonly #options: AccessOptions
  readonly #records: string
  readonly #intents: string
  readonly #underWay = new Set<string>()

  constructor(options: AccessOptions) {
    this.#options = options
    this.#records = join(options.dataDir, 'images', 'private')
    this.#intents = join(options.dataDir, 'images', 'pulls')
  }

  /** Makes the folders, and ends what dead workers left. */
  async open(): Promise<void> {
    for (const folder of [this.#records, this.#intents]) await mkdir(folder, { recursive: true, mode: 0o700 })
    await this.#settle()
  }

  /** Whether a tenant may use the image that the engine has under a name of this repository. */
  async mayUse(id: string, repository: string, tenantId: string): Promise<boolean> {
    const record = this.#read(id)
    if (record) return record.open || record.tenants.includes(tenantId)
    const intents = this.#allIntents()
    return !intents.some(([, intent]) => intent.repository === repository && !intent.known.includes(id))
  }

  /** A tenant has shown to the image's registry that it may have it. */
  async grant(id: string, tenantId: string): Promise<void> {
    const record = this.#read(id)
    if (!record || record.open || record.tenants.includes(tenantId)) return
    await this.#write(id, { open: false, tenants: [...record.tenants, tenantId] })
  }

  /** Its registry gives it to who says no name, or to the operator's: everybody may use it. */
  async openToAll(id: string, repository: string): Promise<void> {
    if (await this.mayUse(id, repository, '')) return
    await this.#write(id, { open: true, tenants: [] })
  }

  /**
   * Runs a pull by a task's credentials. From before its begin until it is known what it brought, whatever the repository
   * newly has counts as private, so that there is no moment at which another tenant may take it.
   *
   * @param pull gives the image that it pulled
   */
  async duringPull<T extends { readonly id: string }>(
    repository: string,
    tenantId: string,
    pull: () => Promise<T>,
  ): Promise<T> {
    await this.#settle()
    const known = (await this.#options.engine.images()).map(({ id }) => id)
    const intent = { worker: this.#options.worker, repository, known, at: Date.now() }
    const file = join(this.#intents, `${randomUUID()}.json`)
    this.#underWay.add(file)
    try {
      await writeWhole(file, intent)
      const image = await pull()
      await this.#restrictNew(intent)
      await this.grant(image.id, tenantId)
      await rm(file, { force: true })
      return image
    } catch (error) {
      // Otherwise it stays: an engine may still finish a pull that was given up.
      if (isRefusal(error)) await rm(file, { force: true })
      throw error
    } finally {
      this.#underWay.delete(file)
    }
  }

  /** Ends what failed pulls and dead workers left. */
  async #settle(): Promise<void> {
    for (const [file, intent] of this.#allIntents()) {
      const own = intent.worker === this.#options.worker
      const isOver = own
        ? !this.#underWay.has(file) && Date.now() - intent.at > LINGER_MS
        : !isAlive(intent.worker)
      if (!isOver) continue
      await this.#restrictNew(intent)
      await rm(file, { force: true })
    }
  }

  /** Makes private what a pull brought. */
  async #restrictNew({ repository, known }: Intent): Promise<void> {
    const before = new Set(known)
    for (const image of await this.#options.engine.images()) {
      if (before.has(image.id) || !isOf(image, repository) || this.#read(image.id)) continue
      await this.#write(image.id, { open: false, tenants: [] })
    }
  }

  #allIntents(): [string, Intent][] {
    const names = readdirSync(this.#intents).filter(name => name.endsWith('.json'))
    const read = names.map((name): [string, Intent] | null => {
      const file = join(this.#intents, name)
      const intent = IntentSchema.safeParse(readJson(file))
      return intent.success ? [file, intent.data] : null
    })
    return read.filter(entry => entry !== null)
  }

  #read(id: string): AccessRecord | null {
    const value = readJson(this.#fileOf(id))
    return value === null ? null : (RecordSchema.safeParse(value).data ?? NOBODY)
  }

  async #write(id: string, record: AccessRecord): Promise<void> {
    await writeWhole(this.#fileOf(id), record)
  }

  #fileOf(id: string): string {
    return join(this.#records, `${hashOf(id)}.json`)
  }
}

/** Whether a registry said that it gives nothing. */
function isRefusal(error: unknown): boolean {
  const refusals = ['image.auth_failed', 'image.not_found', 'image.incompatible']
  return error instanceof TaskFailure && refusals.includes(error.code)
}

function isOf({ names }: ImageSummary, repository: string): boolean {
  return names.some(name => repositoryOf(name) === repository)
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 32)
}

/**
 * What a file holds: null when it is not there, undefined when it is no JSON. Without leaving the thread, as it is on every
 * task's way.
 */
function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as unknown
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** Written aside and renamed, because another worker may read at any time. */
async function writeWhole(file: string, value: unknown): Promise<void> {
  const aside = `${file}.${randomUUID()}`
  await writeFile(aside, JSON.stringify(value), { mode: 0o600 })
  await rename(aside, file)
}
