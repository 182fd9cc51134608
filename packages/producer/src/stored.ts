import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Stored } from '@agirunner/contracts'

export type StoredReason = 'elsewhere' | 'damaged'

/** Makes the caller's error of why something stored can't be read, and what to do. */
export type StoredFailure = (reason: StoredReason, why: string, hint: string, cause?: unknown) => Error

/**
 * The bytes of what a result says is stored. What comes is held to the result's sum where it has one.
 *
 * @throws (from `next`) what `fail` makes; of `damaged` after the last byte, when the sum is known to be wrong
 */
export async function* readStored(
  { uri, sha256 }: Pick<Stored, 'uri'> & { readonly sha256: string | null },
  fail: StoredFailure,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(pathOf(uri, fail))) {
      hash.update(chunk as Buffer)
      yield chunk as Buffer
    }
  } catch (error) {
    if (!isFileError(error)) throw error
    const hint = "run this on the worker's machine as its user, before the task's retention is over"
    throw fail('elsewhere', error.message, hint, error)
  }
  if (sha256 === null || hash.digest('hex') === sha256) return
  const why = `${uri} is not what was captured (its SHA-256 differs)`
  throw fail('damaged', why, 'do not use it; run the task again under another taskId')
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
