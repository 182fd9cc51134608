import { chownSync, lchownSync, lstatSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts/failure'
import { Errors, type HttpClient } from 'isomorphic-git'
import type { Progress } from '../children/serve.js'
import { diskFull, isDiskFull } from '../disk-full.js'
import { checkOut, type NotFetched } from './checkout.js'
import { type Credentials, withoutSecrets } from './credentials.js'
import { fetchCommit } from './fetch.js'
import { linkPacks, makeGitFolder, renderConfig, writeRefs, writeShallow } from './git-folder.js'
import { readAskedCommit } from './history.js'
import { writeIndex } from './index-file.js'
import { ObjectError, ObjectSizeError } from './objects.js'
import { BareRepository, type Fetched } from './repository.js'
import { type Remote, type Resolved, resolveRef, type Wanted } from './resolve.js'
import { withRetries } from './retry.js'
import { GitTransport, statusFailure, type TransportOptions } from './transport.js'

/** What every job against a remote needs. */
export interface RemoteJob {
  readonly remote: Remote
  readonly transport: Omit<TransportOptions, 'received' | 'credentials'>
  /** How long broken connections are tried again, in milliseconds from the job's start. */
  readonly retryMs: number
}

export interface ResolveJob extends RemoteJob {
  readonly ref: string | null
}

export interface FetchJob extends RemoteJob {
  readonly wanted: Wanted
  readonly depth: number
  /** The folder of the remote's bare repository. */
  readonly repository: string
  /** A folder of this fetch's own, on the same disk; whoever gave it removes it. */
  readonly incoming: string
}

export interface CheckoutJob {
  readonly url: string
  readonly wanted: Wanted
  readonly fetched: Fetched
  readonly repository: string
  /** An empty folder; gets the tree and its `.git`. */
  readonly dir: string
  /** Who shall own all of it; null where the worker may not give files away. */
  readonly owner: { readonly uid: number; readonly gid: number } | null
  readonly maxFiles: number
  readonly maxBytes: number
}

/** What a checkout made. */
export interface CheckoutResult {
  /** What it occupies on the disk, without the packs that it shares with the repository. */
  readonly bytes: number
  readonly notFetched: NotFetched
}

export interface EmptyJob {
  readonly dir: string
  readonly url: string | null
  readonly owner: CheckoutJob['owner']
}

/** What a ref names at the remote. @throws TaskFailure `workspace.*` */
export async function runResolve(job: ResolveJob, progress: Progress): Promise<Resolved> {
  progress({ stage: 'resolve', ref: job.ref })
  return await withTransport(
    job,
    progress,
    () => undefined,
    http => resolveRef(http, job.remote, job.ref),
  )
}

/** Brings a commit into the remote's bare repository, unless it is there. @throws TaskFailure `workspace.*` */
export async function runFetch(job: FetchJob, progress: Progress): Promise<Fetched> {
  const { remote, wanted, depth } = job
  const repository = new BareRepository(job.repository, job.incoming)
  const fetched = { receivedObjects: 0, totalObjects: 0, bytes: 0 }
  const tell = () => progress({ stage: 'fetch', ...fetched })
  const arrived = (bytes: number) => {
    fetched.bytes = bytes
    tell()
  }
  const received = ({ done, total }: { done: number; total: number }) => {
    fetched.receivedObjects = done
    fetched.totalObjects = total
    tell()
  }
  return await withTransport(job, progress, arrived, http =>
    fetchCommit({ http, remote, wanted, depth, repository, received }),
  )
}

/** Writes the files of a fetched commit and a `.git` of their own. @throws TaskFailure `workspace.*` */
export async function runCheckout(job: CheckoutJob, progress: Progress): Promise<CheckoutResult> {
  const { dir, owner, fetched, wanted } = job
  const repository = new BareRepository(job.repository)
  makeGitFolder(dir)
  linkPacks(dir, fetched.packs, repository.packFolder)
  writeShallow(dir, fetched.shallow)
  const store = repository.store(fetched.packs)
  try {
    const { tree } = readAskedCommit(store, wanted.commit)
    const branch = writeRefs(dir, wanted)
    const done = { files: 0, bytes: 0 }
    const { entries, trees, notFetched } = checkOut(tree, {
      ...job,
      store,
      root: dir,
      progress: at => progress({ stage: 'checkout', ...Object.assign(done, at) }),
    })
    writeFileSync(join(dir, '.git/index'), writeIndex(entries, trees))
    writeFileSync(join(dir, '.git/config'), renderConfig(job.url, branch))
    if (owner) giveAway(dir, owner)
    return { bytes: occupied(entries, trees.size), notFetched: shorten(notFetched) }
  } catch (error) {
    // The repository does not have what its record says, so the next one shall ask the server again.
    if (error instanceof ObjectError) repository.forget(fetched)
    throw asFailure(error, new URL(job.url))
  } finally {
    store.close()
  }
}

const BLOCK_BYTES = 4096
/** git's own files beside the packs, and per folder and per entry of the index, about. */
const FOLDER_BYTES = BLOCK_BYTES
const INDEX_ENTRY_BYTES = 100

function occupied(entries: readonly { readonly size: number }[], folders: number): number {
  const files = entries.reduce((sum, { size }) => sum + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES, 0)
  return files + folders * FOLDER_BYTES + entries.length * INDEX_ENTRY_BYTES + 16 * BLOCK_BYTES
}

/** A repository may hold any number of them; a person needs the first. */
const MAX_NAMED = 100

function shorten({ submodules, lfs }: NotFetched): NotFetched {
  return { submodules: submodules.slice(0, MAX_NAMED), lfs: lfs.slice(0, MAX_NAMED) }
}

/** A repository without a commit, as `git init` makes it. */
export async function runEmpty({ dir, url, owner }: EmptyJob): Promise<CheckoutResult> {
  makeGitFolder(dir)
  writeFileSync(join(dir, '.git/config'), renderConfig(url))
  if (owner) giveAway(dir, owner)
  return { bytes: occupied([], 8), notFetched: { submodules: [], lfs: [] } }
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
  progress: Progress,
  received: (bytes: number) => void,
  work: (http: HttpClient) => Promise<T>,
): Promise<T> {
  return await withRetries({ budgetMs: job.retryMs, progress }, async () => {
    const transport = new GitTransport({ ...job.transport, received, credentials: job.remote.credentials })
    try {
      return await Promise.race([work({ request: transport.request }), transport.failed])
    } catch (error) {
      throw transport.failure ?? asFailure(error, new URL(job.remote.url), job.remote.credentials)
    } finally {
      transport.close()
    }
  })
}

/** What the library throws, as a failure of the contract: whatever it can't read is the remote's fault. */
function asFailure(error: unknown, url: URL, credentials: Credentials | null = null): unknown {
  if (error instanceof TaskFailure) return error
  if (error instanceof Errors.HttpError) return statusFailure(error.data.statusCode, url) ?? error
  if (error instanceof Errors.UserCanceledError) {
    return new TaskFailure('workspace.auth_failed', `${url.host} wants other credentials`)
  }
  if (error instanceof ObjectSizeError)
    return new TaskFailure('workspace.too_large', `${url.host}: ${error.message}`)
  const broken = isLibraryError(error) || error instanceof ObjectError
  if (!broken && isSystemError(error)) return isDiskFull(error) ? diskFull(error) : error
  const said = withoutSecrets(error instanceof Error ? error.message : String(error), credentials)
  return new TaskFailure(
    'workspace.remote_broken',
    `${url.host} does not answer like a git server; ${said.slice(0, 300)}`,
    { cause: error },
  )
}

function isLibraryError(error: unknown): boolean {
  return (
    error instanceof Error && Object.keys(Errors).includes(`${(error as Error & { code?: string }).code}`)
  )
}

/** Of our own machine: ENOSPC and the like. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error
}
