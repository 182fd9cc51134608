import type { Cache, CacheBudget, Pruned } from '@agirunner/cache'

/** How the cache does, for operators. */
export interface CacheStatus {
  /** What it occupies, as last counted. */
  readonly bytes: number
  readonly maxBytes: number
  /** Workspaces that were made from what was there, and others, since the worker's start. */
  readonly hits: number
  readonly misses: number
}

/** After a new entry the budget is looked at, at most this often, in milliseconds. */
const SOON_MS = 2000

/** Keeps the cache within its budget: one round at a time, off the way of tasks unless the disk is short. */
export class CacheKeeper {
  readonly #cache: Cache
  readonly #budget: CacheBudget
  #round: Promise<Pruned> | null = null
  #soon: NodeJS.Timeout | null = null
  /** As last counted. */
  bytes = 0

  constructor(cache: Cache, budget: CacheBudget) {
    this.#cache = cache
    this.#budget = budget
  }

  get maxBytes(): number {
    return this.#budget.maxBytes
  }

  /** Evicts what the budget has no room for. Whoever comes during a round gets its outcome. */
  async prune(): Promise<Pruned> {
    this.#round ??= this.#cache
      .prune(this.#budget)
      .then(pruned => {
        this.bytes = pruned.bytes
        return pruned
      })
      .finally(() => {
        this.#round = null
      })
    return await this.#round
  }

  /** Before something is built: evicts when the disk is short, so that the build does not fail for what nobody uses. */
  async makeRoom(): Promise<void> {
    if ((await this.#cache.freeBytes()) < this.#budget.minFreeBytes) await this.prune()
  }

  /** After something was built. */
  soon(): void {
    if (this.#soon) return
    this.#soon = setTimeout(() => {
      this.#soon = null
      this.prune().catch(() => undefined)
    }, SOON_MS)
    this.#soon.unref()
  }

  async close(): Promise<void> {
    if (this.#soon) clearTimeout(this.#soon)
    this.#soon = null
    await this.#round?.catch(() => undefined)
  }
}
