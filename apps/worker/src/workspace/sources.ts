import { type GitRemoteSource, type Task, TaskFailure } from '@agirunner/contracts'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { Remote, Resolved, Wanted } from './git/resolve.js'
import type { Base } from './plan.js'
import type { Remotes } from './remotes.js'
import type { Repositories } from './repositories.js'
import type { FileOwner } from './slots.js'
import type { Build, Snapshot, SnapshotKey, Snapshots } from './snapshots.js'

export interface Watch {
  readonly signal: AbortSignal
  readonly progress: (data: Record<string, unknown>) => void
}

/** A pinned snapshot and what it is of. */
export interface Sourced {
  readonly base: Base
  readonly snapshot: Snapshot
}

interface CommitJob {
  readonly remote: Remote
  readonly tenant: string | null
  readonly wanted: Wanted
  readonly depth: number
  readonly owner: FileOwner
}

type Source = Task['workspace']['source']

/** Turns a task's source into a pinned snapshot. */
export class Sources {
  readonly #snapshots: Snapshots
  readonly #repositories: Repositories
  readonly #remotes: Remotes

  constructor(snapshots: Snapshots, repositories: Repositories, remotes: Remotes) {
    this.#snapshots = snapshots
    this.#repositories = repositories
    this.#remotes = remotes
  }

  /** @throws TaskFailure `workspace.*`, `environment.unsupported` */
  async take(accepted: AcceptedTask, slot: string, owner: FileOwner, watch: Watch): Promise<Sourced> {
    const { source } = accepted.task.workspace
    switch (source.type) {
      case 'git_remote':
        return await this.#takeRemote(accepted, source, slot, owner, watch)
      case 'empty':
        return await this.#takeEmpty(null, { tenant: null }, slot, owner, watch)
      case 'host_directory':
      case 'workspace_artifacts':
        throw unsupported(source)
    }
  }

  async #takeRemote(
    accepted: AcceptedTask,
    source: GitRemoteSource,
    slot: string,
    owner: FileOwner,
    watch: Watch,
  ): Promise<Sourced> {
    const remote = remoteOf(accepted, source)
    const tenant = remote.credentials ? accepted.task.tenantId : null
    const resolved = await this.#remotes.resolve(source, remote, watch)
    if (!isWanted(resolved)) return await this.#takeEmpty(remote.url, { tenant }, slot, owner, watch)
    const key: SnapshotKey = { ...resolved, url: remote.url, tenant, depth: source.depth, uid: owner.uid }
    const job: CommitJob = { remote, tenant, wanted: resolved, depth: source.depth, owner }
    const snapshot = await this.#snapshots.obtain(key, slot, this.#buildOf(job), watch)
    return { base: baseOf(remote.url, resolved), snapshot }
  }

  #buildOf({ remote, tenant, wanted, depth, owner }: CommitJob): Build {
    return async (dir, holder, { signal, progress }) => {
      const { url } = remote
      return await this.#repositories.use(
        { url, tenant },
        holder,
        signal,
        async ({ dir: repository, once }) => {
          const watch = { signal, progress }
          const fetch = () => this.#remotes.fetch({ remote, wanted, depth, repository }, watch)
          const fetched = await once(wanted.commit, depth, signal, fetch)
          return await this.#remotes.checkOut({ url, wanted, fetched, repository, dir, owner }, watch)
        },
      )
    }
  }

  async #takeEmpty(
    url: string | null,
    { tenant }: { tenant: string | null },
    slot: string,
    owner: FileOwner,
    watch: Watch,
  ): Promise<Sourced> {
    const key: SnapshotKey = { url, tenant, commit: null, ref: null, depth: 0, uid: owner.uid }
    const build: Build = (dir, _holder, inner) => this.#remotes.empty({ dir, url, owner }, inner)
    const snapshot = await this.#snapshots.obtain(key, slot, build, watch)
    return { base: { url, ref: null, commit: null }, snapshot }
  }
}

function isWanted(resolved: Resolved): resolved is Wanted {
  return resolved.commit !== null && resolved.want !== null
}

function baseOf(url: string, { ref, commit }: Resolved): Base {
  return { url, ref, commit }
}

/** The address as it may be shown and kept: without user-info, whatever the task's parser let through. */
function remoteOf({ credentials }: AcceptedTask, source: GitRemoteSource): Remote {
  const url = new URL(source.url)
  if (url.username !== '' || url.password !== '') {
    throw new TaskFailure(
      'workspace.url_forbidden',
      `the address of ${url.host} holds a user name or password`,
      {
        phase: 'workspace',
        hint: 'use workspace.source.credentials with a secretRef',
      },
    )
  }
  url.hash = ''
  return {
    url: url.href.replace(/\/+$/, ''),
    credentials: credentials && {
      username: credentials.username,
      password: credentials.password.reveal().toString(),
    },
  }
}

function unsupported(source: Exclude<Source, { type: 'git_remote' | 'empty' }>): TaskFailure {
  return new TaskFailure(
    'environment.unsupported',
    `this worker can't make a workspace from a source of type "${source.type}" yet`,
    {
      phase: 'workspace',
      hint: 'use a source of type "git_remote" or "empty"',
    },
  )
}
