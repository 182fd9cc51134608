import { type GitRemoteSource, TaskFailure } from '@agirunner/contracts'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { Remote, Resolved, Wanted } from './git/resolve.js'
import type { Base, Slot } from './plan.js'
import type { Remotes } from './remotes.js'
import type { Repositories } from './repositories.js'
import type { FileOwner } from './slots.js'
import type { Build, SnapshotKey, Snapshots } from './snapshots.js'
import type { ArtifactSeeds } from './sources/artifacts.js'
import type { HostDirectories } from './sources/host-directory.js'
import { repositoryOf, type Sourced, type Watch } from './sources/sourced.js'

interface CommitJob {
  readonly remote: Remote
  readonly tenant: string | null
  readonly wanted: Wanted
  readonly depth: number
  readonly owner: FileOwner
}

/** Turns a task's source into what its workspace starts from. */
export class Sources {
  readonly #snapshots: Snapshots
  readonly #repositories: Repositories
  readonly #remotes: Remotes
  readonly #hostDirectories: HostDirectories
  readonly #seeds: ArtifactSeeds

  constructor(
    snapshots: Snapshots,
    repositories: Repositories,
    remotes: Remotes,
    others: { hostDirectories: HostDirectories; seeds: ArtifactSeeds },
  ) {
    this.#snapshots = snapshots
    this.#repositories = repositories
    this.#remotes = remotes
    this.#hostDirectories = others.hostDirectories
    this.#seeds = others.seeds
  }

  /** @throws TaskFailure `workspace.*`, `spec.forbidden` */
  async take(accepted: AcceptedTask, slot: Slot, owner: FileOwner, watch: Watch): Promise<Sourced> {
    const { source } = accepted.task.workspace
    switch (source.type) {
      case 'git_remote':
        return await this.#takeRemote(accepted, source, slot.id, owner, watch)
      case 'empty':
        return await this.#takeEmpty(null, { tenant: null }, slot.id, owner, watch)
      case 'host_directory':
        return await this.#hostDirectories.take(source, slot, owner, watch)
      case 'workspace_artifacts': {
        const files = await this.#seeds.take(accepted.task.tenantId, source, watch)
        return { ...(await this.#takeEmpty(null, { tenant: null }, slot.id, owner, watch)), files }
      }
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
    return repositoryOf(snapshot, baseOf(remote.url, resolved))
  }

  #buildOf({ remote, tenant, wanted, depth, owner }: CommitJob): Build {
    return async (dir, holder, { signal, progress }) => {
      const { url } = remote
      return await this.#repositories.use({ url, tenant }, holder, signal, async opened => {
        const watch = { signal, progress }
        const repository = opened.dir
        const fetch = () => this.#remotes.fetch({ remote, wanted, depth, repository }, watch)
        const fetched = await opened.once(wanted.commit, depth, signal, fetch)
        return await this.#remotes.checkOut({ url, wanted, fetched, repository, dir, owner }, watch)
      })
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
    return repositoryOf(snapshot, { url, ref: null, commit: null })
  }
}

function isWanted(resolved: Resolved): resolved is Wanted {
  return resolved.commit !== null && resolved.want !== null
}

function baseOf(url: string, { ref, commit }: Resolved): Base {
  return { url, ref, commit }
}

/**
 * The repository of a task as it may be asked, shown and kept: without user-info, whatever the task's parser let through.
 *
 * @throws TaskFailure `workspace.url_forbidden`
 */
export function remoteOf({ credentials }: AcceptedTask, source: GitRemoteSource): Remote {
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
