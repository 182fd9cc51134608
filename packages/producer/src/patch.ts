import type { Stored, TaskResult } from '@agirunner/contracts'
import { PatchUnavailableError } from './errors.js'
import { readStored, type Store } from './stored.js'

/**
 * The exact bytes of a task's patch. No bytes when the task changed nothing.
 *
 * @throws (from `next`) PatchUnavailableError; `damaged` comes after the last byte, when the sum is known to be wrong
 */
export async function* readPatch(
  taskId: string,
  result: TaskResult | null,
  store: Store = null,
): AsyncGenerator<Buffer> {
  const stored = storedPatch(taskId, result)
  if (!stored || !result) return
  yield* readStored(
    stored,
    { store, owner: result },
    (reason, why, hint, cause) => new PatchUnavailableError(taskId, reason, why, hint, cause),
  )
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
