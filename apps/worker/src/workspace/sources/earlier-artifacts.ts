import { closeSync, constants, createReadStream, fstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { TaskFailure, type TaskResult } from '@agirunner/contracts'
import { type ObjectStore, StorageError } from '@agirunner/storage'
import type { TaskRecords } from '../../intake/records.js'
import { entryOf, openFolders } from './folders.js'

export interface ArtifactName {
  readonly taskId: string
  /** As in the result's `artifacts`; else `changes.patch`, `changes.bundle` or `log`. */
  readonly path: string
}

export interface EarlierArtifact {
  /** What the result says of it; null where it says nothing, as of a log. */
  readonly sizeBytes: number | null
  readonly sha256: string | null
  /** Its bytes, as they are stored now. @throws TaskFailure `workspace.not_found` when they are gone */
  read(): AsyncIterable<Uint8Array>
}

/** What tasks have left behind, wherever it is kept. */
export interface EarlierArtifacts {
  /**
   * Looks up what a finished task of this tenant left. The answer for another tenant's task is that for an unknown one.
   *
   * @throws TaskFailure `workspace.not_found`
   */
  find(tenantId: string, name: ArtifactName): Promise<EarlierArtifact>
}

/** Results of Redis, artifacts in `$AGIRUNNER_DATA/artifacts` or in the bucket. */
export class StoredArtifacts implements EarlierArtifacts {
  readonly #records: Pick<TaskRecords, 'result' | 'tenantOf'>
  readonly #folder: string
  readonly #store: ObjectStore | null

  constructor(
    records: Pick<TaskRecords, 'result' | 'tenantOf'>,
    dataDir: string,
    store: ObjectStore | null = null,
  ) {
    this.#records = records
    this.#folder = join(dataDir, 'artifacts')
    this.#store = store
  }

  async find(tenantId: string, name: ArtifactName): Promise<EarlierArtifact> {
    const result = await this.#result(tenantId, name)
    const stored = entryIn(result, name.path)
    if (!stored) throw missing(name, 'the task left no such artifact')
    const { sizeBytes, sha256, uri } = stored
    const names = this.#namesOf(tenantId, name.taskId, uri)
    if (names) return { sizeBytes, sha256, read: () => createReadStream('', { fd: this.#open(names, name) }) }
    const key = this.#store?.keyOf(uri, `${tenantId}/${name.taskId}/`)
    if (!this.#store || !key) throw missing(name, 'it is kept where this worker can not read it')
    const store = this.#store
    return { sizeBytes, sha256, read: () => fromBucket(store, key, name) }
  }

  async #result(tenantId: string, name: ArtifactName): Promise<TaskResult> {
    const result = await this.#records.result(name.taskId)
    const tenant = result?.tenantId ?? (await this.#records.tenantOf(name.taskId))
    if (tenant !== tenantId) throw missing(name, 'the tenant has no such task')
    if (result) return result
    throw missing(name, 'the task has not ended yet', 'enqueue this task when that one has its result')
  }

  /** Below the folder of that tenant's task, whatever the result says: a URI leads nowhere else. */
  #namesOf(tenantId: string, taskId: string, uri: string): string[] | null {
    const own = `${join(this.#folder, tenantId, taskId)}/`
    const path = pathOf(uri)
    if (!path?.startsWith(own)) return null
    const names = path.slice(own.length).split('/')
    const isPlain = names.every(part => part !== '' && part !== '.' && part !== '..')
    return isPlain ? [tenantId, taskId, ...names] : null
  }

  /** Through folders to a plain file; no link is followed. */
  #open(names: readonly string[], name: ArtifactName): number {
    const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants
    const open: number[] = []
    try {
      const top = openSync(this.#folder, O_RDONLY | O_DIRECTORY)
      open.push(top)
      const bytes = names.map(part => Buffer.from(part).toString('latin1'))
      const folder = openFolders(top, bytes.slice(0, -1))
      open.push(folder)
      const file = openSync(entryOf(folder, bytes.at(-1) ?? ''), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
      if (fstatSync(file).isFile()) return file
      open.push(file)
    } catch (error) {
      if (!GONE.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    } finally {
      for (const fd of open) closeSync(fd)
    }
    throw missing(name, 'it is not kept on this machine any more')
  }
}

async function* fromBucket(store: ObjectStore, key: string, name: ArtifactName): AsyncGenerator<Uint8Array> {
  try {
    yield* store.read(key)
  } catch (error) {
    if (!(error instanceof StorageError)) throw error
    if (error.reason === 'missing') throw missing(name, 'it is not in the bucket any more')
    const { message, hint } = error
    throw new TaskFailure('workspace.remote_unreachable', message, { phase: 'workspace', hint, cause: error })
  }
}

/** Null for what is no file of this machine, or no URI at all. */
function pathOf(uri: string): string | null {
  try {
    return fileURLToPath(uri)
  } catch {
    return null
  }
}

const GONE = ['ENOENT', 'ENOTDIR', 'ELOOP']

type Entry = Pick<EarlierArtifact, 'sizeBytes' | 'sha256'> & { readonly uri: string }

function entryIn({ artifacts, changes, logs }: TaskResult, path: string): Entry | null {
  const artifact = artifacts.find(candidate => candidate.path === path)
  if (artifact) return artifact
  if (path === 'changes.patch') return changes?.patch ?? null
  if (path === 'changes.bundle') return changes?.bundle ?? null
  return path === 'log' && logs?.uri ? { uri: logs.uri, sizeBytes: null, sha256: null } : null
}

function missing({ taskId, path }: ArtifactName, why: string, hint?: string): TaskFailure {
  return new TaskFailure(
    'workspace.not_found',
    `artifact "${path}" of task "${taskId}" is not there; ${why}`,
    {
      phase: 'workspace',
      hint:
        hint ??
        "check taskId and path against that task's result; artifacts last as long as its capture.retention",
    },
  )
}
