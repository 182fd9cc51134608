import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Stored, TaskResult } from '@agirunner/contracts'
import { type ObjectStore, StorageError } from '@agirunner/storage'

export type StoredReason = 'elsewhere' | 'damaged'

/** Makes the caller's error of why something stored can't be read, and what to do. */
export type StoredFailure = (reason: StoredReason, why: string, hint: string, cause?: unknown) => Error

/** Where a reader may look besides this machine's disk; null for nowhere. */
export type Store = ObjectStore | null

/** Whose things are read: a URI leads to nothing else. */
export type Owner = Pick<TaskResult, 'tenantId' | 'taskId'>

/**
 * The bytes of what a result says is stored. What comes is held to the result's sum where it has one.
 *
 * @param from the bucket to read from, and of which task
 * @throws (from `next`) what `fail` makes; of `damaged` after the last byte, when the sum is known to be wrong
 */
export async function* readStored(
  { uri, sha256 }: Pick<Stored, 'uri'> & { readonly sha256: string | null },
  from: { readonly store: Store; readonly owner: Owner },
  fail: StoredFailure,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of bytesOf(uri, from, fail)) {
      hash.update(chunk)
      yield chunk
    }
  } catch (error) {
    if (error instanceof StorageError) throw fail('elsewhere', error.message, error.hint, error)
    if (!isFileError(error)) throw error
    const hint = "run this on the worker's machine as its user, before the task's retention is over"
    throw fail('elsewhere', error.message, hint, error)
  }
  if (sha256 === null || hash.digest('hex') === sha256) return
  const why = `${uri} is not what was captured (its SHA-256 differs)`
  throw fail('damaged', why, 'do not use it; run the task again under another taskId')
}

/** Of what is large, small pieces cost more than their bytes. */
const CHUNK_BYTES = 1024 * 1024

function bytesOf(
  uri: string,
  { store, owner }: { store: Store; owner: Owner },
  fail: StoredFailure,
): AsyncIterable<Buffer> {
  if (!uri.startsWith('s3:')) return createReadStream(pathOf(uri, fail), { highWaterMark: CHUNK_BYTES })
  const key = store?.keyOf(uri, `${owner.tenantId}/${owner.taskId}/`)
  if (store && key) return store.read(key)
  const why = store ? `, and the bucket to read from is ${store.uriOf()}` : ''
  const hint = 'name that bucket: AGIRUNNER_STORAGE, or `storage` of createProducer'
  throw fail('elsewhere', `it is stored at ${uri}${why}`, hint)
}

function pathOf(uri: string, fail: StoredFailure): string {
  if (URL.canParse(uri) && new URL(uri).protocol === 'file:') {
    try {
      return fileURLToPath(uri)
    } catch {
      // A file address with a host or an encoded slash: it is not on this machine.
    }
  }
  throw fail('elsewhere', `it is stored at ${uri}`, 'fetch it from there')
}

function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return typeof (error as NodeJS.ErrnoException | null)?.syscall === 'string'
}
