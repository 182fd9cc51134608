import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Stored, TaskResult } from '@agirunner/contracts'
import { PatchUnavailableError } from './errors.js'

/**
 * The exact bytes of a task's patch. No bytes when the task changed nothing.
 *
 * @throws (from `next`) PatchUnavailableError; `damaged` comes after the last byte, when the sum is known to be wrong
 */
export async function* readPatch(taskId: string, result: TaskResult | null): AsyncGenerator<Buffer> {
  const stored = storedPatch(taskId, result)
  if (!stored) return
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(pathOf(taskId, stored.uri))) {
      hash.update(chunk as Buffer)
      yield chunk as Buffer
    }
  } catch (error) {
    if (!isFileError(error)) throw error
    const hint = "run this on the worker's machine as its user, before the task's retention is over"
    throw new PatchUnavailableError(taskId, 'elsewhere', error.message, hint, error)
  }
  if (hash.digest('hex') !== stored.sha256) {
    const why = `${stored.uri} is not what was captured (its SHA-256 differs)`
    throw new PatchUnavailableError(
      taskId,
      'damaged',
      why,
      'do not apply it; run the task again under another taskId',
    )
  }
}

function storedPatch(taskId: string, result: TaskResult | null): Stored | null {
  if (!result) {
    throw new PatchUnavailableError(
      taskId,
      'unfinished',
      'the task has not finished',
      'wait for its result first',
    )
  }
  const { changes } = result
  if (!changes) {
    const why = `its changes were not captured (${result.failure?.code ?? 'capture.changes is "none"'})`
    throw new PatchUnavailableError(
      taskId,
      'not_captured',
      why,
      'see its result; set capture.changes to "patch"',
    )
  }
  if (!changes.patch && changes.files.length > 0) {
    const why = 'its result names changes and no patch'
    throw new PatchUnavailableError(
      taskId,
      'not_captured',
      why,
      `see the result's notes: ${changes.notes.join('; ')}`,
    )
  }
  return changes.patch
}

function pathOf(taskId: string, uri: string): string {
  if (URL.canParse(uri) && new URL(uri).protocol === 'file:') {
    try {
      return fileURLToPath(uri)
    } catch {
      // A file address with a host or an encoded slash: it is not on this machine.
    }
  }
  throw new PatchUnavailableError(taskId, 'elsewhere', `it is stored at ${uri}`, 'fetch it from there')
}

function isFileError(error: unknown): error is NodeJS.ErrnoException {
  return typeof (error as NodeJS.ErrnoException | null)?.syscall === 'string'
}
