import { chownSync, lchownSync, lstatSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import { Errors, type HttpClient } from 'isomorphic-git'
import type { Progress } from '../children/serve.js'
import { checkOut } from './checkout.js'
import { type Credentials, withoutSecrets } from './credentials.js'
import { fetchCommit, makeGitFolder, mendObjects, renderConfig, writeRefs } from './fetch.js'
import { writeIndex } from './index-file.js'
import { ObjectError, type ObjectStore } from './objects.js'
import { type Remote, type Resolved, resolveRef } from './resolve.js'
import { GitTransport, statusFailure, type TransportOptions } from './transport.js'
import { parseCommit, parseTag } from './tree.js'

/** What every job against a remote needs. */
export interface RemoteJob {
  readonly remote: Remote
  readonly transport: Omit<TransportOptions, 'received' | 'credentials'>
}

export interface ResolveJob extends RemoteJob {
  readonly ref: string | null
}

export interface SnapshotJob extends RemoteJob {
  /** With a `commit`; `ref` says what HEAD shall be. */
  readonly resolved: Resolved
  readonly depth: number
  /** An empty folder; gets the tree and its `.git`. */
  readonly dir: string
  /** Who shall own all of it; null where the worker may not give files away. */
  readonly owner: { readonly uid: number; readonly gid: number } | null
  readonly maxFiles: number
  readonly maxBytes: number
}

export interface EmptyJob {
  readonly dir: string
  readonly url: string | null
  readonly owner: SnapshotJob['owner']
}

/** What a ref names at the remote. @throws TaskFailure `workspace.*` */
export async function runResolve(job: ResolveJob, progress: Progress): Promise<Resolved> {
  progress({ stage: 'resolve', ref: job.ref })
  return await withTransport(
    job,
    () => undefined,
    http => resolveRef(http, job.remote, job.ref),
  )
}

/** Makes a snapshot of a commit: fetches it and writes its files and a `.git`. @throws TaskFailure `workspace.*` */
export async function runSnapshot(job: SnapshotJob, progress: Progress): Promise<void> {
  const { dir, owner } = job
  const wanted = { ...job.resolved, commit: job.resolved.commit ?? '', want: job.resolved.want ?? '' }
  const store = await fetchForSnapshot(job, wanted, progress)
  try {
    const { tree } = readCommit(store, wanted.commit)
    const branch = writeRefs(dir, wanted)
    const { entries, trees } = checkOut(tree, {
      ...job,
      store,
      root: dir,
      progress: done => progress({ stage: 'checkout', ...done }),
    })
    writeFileSync(join(dir, '.git/index'), writeIndex(entries, trees))
    writeFileSync(join(dir, '.git/config'), renderConfig(job.remote.url, branch))
  } catch (error) {
    throw asFailure(error, new URL(job.remote.url))
  } finally {
    store.close()
  }
  mendObjects(dir)
  if (owner) giveAway(dir, owner)
}

async function fetchForSnapshot(
  job: SnapshotJob,
  resolved: Resolved & { commit: string; want: string },
  progress: Progress,
): Promise<ObjectStore> {
  const fetched = { receivedObjects: 0, totalObjects: 0, bytes: 0 }
  const tell = () => progress({ stage: 'fetch', ...fetched })
  const received = (bytes: number) => {
    fetched.bytes = bytes
    tell()
  }
  return await withTransport(job, received, http =>
    fetchCommit({
      http,
      remote: job.remote,
      resolved,
      depth: job.depth,
      dir: job.dir,
      received: ({ done, total }) => {
        fetched.receivedObjects = done
        fetched.totalObjects = total
        tell()
      },
    }),
  )
}

/** A repository without a commit, as `git init` makes it. */
export async function runEmpty({ dir, url, owner }: EmptyJob): Promise<void> {
  makeGitFolder(dir)
  writeFileSync(join(dir, '.git/config'), renderConfig(url))
  if (owner) giveAway(dir, owner)
}

/** @throws TaskFailure `workspace.commit_not_found` when the object is something else */
function readCommit(store: ObjectStore, oid: string) {
  const object = store.read(oid)
  if (object.type === 'tag') {
    throw new TaskFailure(
      'workspace.commit_not_found',
      `${oid} is a tag of a ${parseTag(object.data).type}, not a commit`,
    )
  }
  if (object.type !== 'commit')
    throw new TaskFailure('workspace.commit_not_found', `${oid} is a ${object.type}, not a commit`)
  return parseCommit(object.data)
}

/**
 * The `.git` folder and the root belong to the task's user as well, or git speaks of dubious ownership. Packs don't:
 * nobody may write them, and a changed owner would copy a whole pack into the task's own layer.
 */
function giveAway(dir: string, owner: { uid: number; gid: number }): void {
  chownSync(dir, owner.uid, owner.gid)
  const pending = [join(dir, '.git')]
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    lchownSync(path, owner.uid, owner.gid)
    if (!lstatSync(path).isDirectory()) continue
    const isPacks = path.endsWith('.git/objects/pack')
    if (!isPacks) pending.push(...readdirSync(path).map(name => join(path as string, name)))
  }
}

async function withTransport<T>(
  job: RemoteJob,
  received: (bytes: number) => void,
  work: (http: HttpClient) => Promise<T>,
): Promise<T> {
  const transport = new GitTransport({ ...job.transport, received, credentials: job.remote.credentials })
  try {
    return await Promise.race([work({ request: transport.request }), transport.failed])
  } catch (error) {
    throw transport.failure ?? asFailure(error, new URL(job.remote.url), job.remote.credentials)
  } finally {
    transport.close()
  }
}

/** What the library throws, as a failure of the contract: whatever it can't read is the remote's fault. */
function asFailure(error: unknown, url: URL, credentials: Credentials | null = null): unknown {
  if (error instanceof TaskFailure) return error
  if (error instanceof Errors.HttpError) return statusFailure(error.data.statusCode, url) ?? error
  if (error instanceof Errors.UserCanceledError) {
    return new TaskFailure('workspace.auth_failed', `${url.host} wants other credentials`)
  }
  const broken = isLibraryError(error) || error instanceof ObjectError
  if (!broken && isSystemError(error)) return error
  const said = withoutSecrets(error instanceof Error ? error.message : String(error), credentials).slice(
    0,
    300,
  )
  return new TaskFailure(
    'workspace.remote_broken',
    `${url.host} does not answer like a git server; ${said}`,
    { cause: error },
  )
}

function isLibraryError(error: unknown): boolean {
  return (
    error instanceof Error && Object.keys(Errors).includes(`${(error as Error & { code?: string }).code}`)
  )
}

/** Of our own disk: ENOSPC and the like. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error
}
