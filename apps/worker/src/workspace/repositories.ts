import { randomUUID } from 'node:crypto'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cache, Entry, Unpin } from '@agirunner/cache'
import type { Owner } from '../engine/labels.js'
import { withFileLock } from '../support/file-lock.js'
import { sleep } from '../support/lifecycle.js'
import { repositoryId } from './snapshots.js'

const FORMAT = 1
const EVICTION_LOOK_MS = 20

/** One repository of a remote, in use. */
export interface OpenRepository {
  /** The folder of the bare repository. */
  readonly dir: string
  /** Does what only one worker at a time may do for one commit: whoever waited finds it done. */
  once<T>(commit: string, depth: number, signal: AbortSignal, work: () => Promise<T>): Promise<T>
}

/** What was fetched from remotes, below `repositories/<repository>`: bare repositories that later fetches add to. */
export class Repositories {
  readonly #cache: Cache
  readonly #dataDir: string
  readonly #worker: Owner

  constructor(dataDir: string, cache: Cache, worker: Owner) {
    this.#dataDir = dataDir
    this.#cache = cache
    this.#worker = worker
  }

  /**
   * Lets `work` use the repository of a remote; it is made when it is not there, and not evicted meanwhile.
   *
   * @param tenant null where anybody may read it
   * @param holder the folder on whose behalf, relative to the data folder
   */
  async use<T>(
    remote: { readonly url: string; readonly tenant: string | null },
    holder: string,
    signal: AbortSignal,
    work: (repository: OpenRepository) => Promise<T>,
  ): Promise<T> {
    const id = repositoryId(remote.url, remote.tenant)
    const dir = join(this.#cache.repositories, id)
    const entry = this.#cache.entry(dir)
    const unpin = await this.#pin(entry, remote, holder, signal)
    void entry.touch()
    try {
      const lockOf = (commit: string, depth: number) =>
        join(this.#dataDir, 'locks', `${id}-${commit}-${depth}.lock`)
      return await work({
        dir,
        once: (commit, depth, until, once) => withFileLock(lockOf(commit, depth), this.#worker, until, once),
      })
    } finally {
      await unpin()
    }
  }

  async #pin(
    entry: Entry,
    { url, tenant }: { url: string; tenant: string | null },
    holder: string,
    signal: AbortSignal,
  ): Promise<Unpin> {
    for (;;) {
      await mkdir(join(entry.path, 'pins'), { recursive: true, mode: 0o700 })
      if ((await entry.lastUsed()) === null)
        await writeWhole(join(entry.path, 'meta.json'), { format: FORMAT, url, tenant })
      const unpin = entry.pin(holder)
      if (unpin) return unpin
      // It is being evicted, which takes a moment.
      await sleep(EVICTION_LOOK_MS, signal)
    }
  }
}

async function writeWhole(path: string, value: unknown): Promise<void> {
  const draft = `${path}.${randomUUID()}`
  await writeFile(draft, JSON.stringify(value), { mode: 0o600 })
  await rename(draft, path)
}
