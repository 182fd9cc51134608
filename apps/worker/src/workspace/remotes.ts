import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { GitRemoteSource } from '@agirunner/contracts'
import { type Share, SharedWork } from '../support/shared-work.js'
import { ChildPool } from './children/pool.js'
import type { Pushed, PushJob } from './git/push-job.js'
import { type Fetched, incomingFolder } from './git/repository.js'
import type { Remote, Resolved, Wanted } from './git/resolve.js'
import type {
  CheckoutJob,
  CheckoutResult,
  EmptyJob,
  FetchJob,
  RemoteJob,
  ResolveJob,
} from './git/snapshot-job.js'
import { type PushWatch, pushBranch } from './push.js'
import { removeTree } from './remove-tree.js'
import { type FileOwner, isRoot } from './slots.js'

/** How long git may take, in milliseconds, and how much it may bring. */
export interface GitLimits {
  readonly connectMs: number
  readonly firstByteMs: number
  readonly idleMs: number
  /** For one fetch with its checkout. */
  readonly totalMs: number
  /** Of packs and ref lists, as they travel. */
  readonly maxFetchBytes: number
  /** Of the checked-out files. */
  readonly maxTreeBytes: number
  readonly maxFiles: number
  /** What a git child may hold in memory. */
  readonly maxMemoryBytes: number
  /** How long broken connections are tried again, from the first try on; at most half of `totalMs`. */
  readonly retryMs: number
  /** How many git children may work at once. */
  readonly children: number
}

export const GIT_LIMITS: GitLimits = {
  connectMs: 10_000,
  firstByteMs: 60_000,
  idleMs: 30_000,
  totalMs: 10 * 60_000,
  maxFetchBytes: 2 * 2 ** 30,
  maxTreeBytes: 10 * 2 ** 30,
  maxFiles: 1_000_000,
  maxMemoryBytes: 3 * 2 ** 30,
  retryMs: 30_000,
  children: 2,
}

type Watch = Share

/** Speaks to git servers, from child processes: what they send can neither block nor blow up the worker. */
export class Remotes {
  readonly #limits: GitLimits
  readonly #allowPrivate: boolean
  readonly #pool: ChildPool
  readonly #questions = new SharedWork<Resolved>()

  constructor(options: { limits: GitLimits; allowPrivate: boolean }) {
    this.#limits = options.limits
    this.#allowPrivate = options.allowPrivate
    this.#pool = new ChildPool({
      module: new URL('./git/child.js', import.meta.url),
      size: options.limits.children,
      heapMiB: Math.ceil(options.limits.maxMemoryBytes / 2 ** 21),
      rssBytes: options.limits.maxMemoryBytes,
      privateMounts: false,
      phase: 'workspace',
      failures: { late: 'workspace.timeout', large: 'workspace.too_large', died: 'workspace.remote_broken' },
    })
  }

  /** What `source.commit` or `source.ref` is at the remote; asks it only for a ref. */
  async resolve(source: GitRemoteSource, remote: Remote, watch: Watch): Promise<Resolved> {
    if (source.commit !== null) return { commit: source.commit, ref: null, want: source.commit }
    const job: ResolveJob = { ...this.#job(remote), ref: source.ref }
    const { totalMs: deadlineMs } = this.#limits
    const key = JSON.stringify([remote, source.ref])
    // Many tasks on one branch ask at once; what one is told must not be older than its own question.
    const ask = (inner: Share) => this.#pool.run<Resolved>('resolve', job, { ...inner, deadlineMs })
    return await this.#questions.ask(key, ask, watch)
  }

  /** Brings a commit into a bare repository, and of it what is missing there. */
  async fetch(
    job: { remote: Remote; wanted: Wanted; depth: number; repository: string },
    watch: Watch,
  ): Promise<Fetched> {
    const incoming = join(incomingFolder(job.repository), randomUUID())
    await mkdir(incoming, { recursive: true })
    try {
      const full: FetchJob = { ...job, ...this.#job(job.remote), incoming }
      return await this.#pool.run<Fetched>('fetch', full, { ...watch, deadlineMs: this.#limits.totalMs })
    } finally {
      // A child that is killed leaves what it had; without its folder it can't add to that.
      await removeTree(incoming)
    }
  }

  /** Checks out what was fetched into an empty folder. */
  async checkOut(
    job: {
      url: string
      wanted: Wanted
      fetched: Fetched
      repository: string
      dir: string
      owner: FileOwner
    },
    watch: Watch,
  ): Promise<CheckoutResult> {
    const { maxFiles, maxTreeBytes, totalMs } = this.#limits
    const full: CheckoutJob = { ...job, owner: isRoot() ? job.owner : null, maxFiles, maxBytes: maxTreeBytes }
    return await this.#pool.run<CheckoutResult>('checkout', full, { ...watch, deadlineMs: totalMs })
  }

  /** A repository without commits. */
  async empty(
    job: { dir: string; url: string | null; owner: FileOwner },
    watch: Watch,
  ): Promise<CheckoutResult> {
    const full: EmptyJob = { ...job, owner: isRoot() ? job.owner : null }
    return await this.#pool.run<CheckoutResult>('empty', full, { ...watch, deadlineMs: this.#limits.totalMs })
  }

  /** Sets a branch of a remote, trying again while the way to the server is what fails. @throws as `pushBranch` */
  async push(job: Omit<PushJob, 'transport' | 'retryMs'>, watch: PushWatch): Promise<void> {
    const { signal, progress } = watch
    const { totalMs: deadlineMs } = this.#limits
    const once = (full: PushJob) => this.#pool.run<Pushed>('push', full, { signal, progress, deadlineMs })
    await pushBranch({ ...job, ...this.#job(job.remote) }, once, watch)
  }

  close(): Promise<void> {
    return this.#pool.close()
  }

  #job(remote: Remote): RemoteJob {
    const { connectMs, firstByteMs, idleMs, maxFetchBytes: maxBytes, retryMs, totalMs } = this.#limits
    return {
      remote,
      retryMs: Math.min(retryMs, totalMs / 2),
      transport: { allowPrivate: this.#allowPrivate, connectMs, firstByteMs, idleMs, maxBytes },
    }
  }
}
