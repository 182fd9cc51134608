import type { Stored, TaskResult } from '@agirunner/contracts'
import { ArtifactUnavailableError } from './errors.js'
import { readStored, type Store } from './stored.js'

/**
 * The exact bytes of something that a task left.
 *
 * @param path as in the result's `artifacts`; else `changes.patch`, `changes.bundle` or `log`
 * @throws (from `next`) ArtifactUnavailableError; `damaged` comes after the last byte, when the sum is known to be wrong
 */
export async function* readArtifact(
  taskId: string,
  path: string,
  result: TaskResult | null,
  store: Store = null,
): AsyncGenerator<Buffer> {
  const fail = (reason: ArtifactUnavailableError['reason'], why: string, hint: string, cause?: unknown) =>
    new ArtifactUnavailableError({ taskId, path, reason }, why, hint, cause)
  if (!result) throw fail('unfinished', 'the task has not finished', 'wait for its result first')
  const stored = storedIn(result, path)
  if (stored) yield* readStored(stored, { store, owner: result }, fail)
  else throw fail('not_captured', whyNot(result, path), 'see `artifacts` and `skipped` of its result')
}

function storedIn(
  { artifacts, changes, logs }: TaskResult,
  path: string,
): (Pick<Stored, 'uri'> & { sha256: string | null }) | null {
  const artifact = artifacts.find(candidate => candidate.path === path)
  if (artifact) return artifact
  if (path === 'changes.patch') return changes?.patch ?? null
  if (path === 'changes.bundle') return changes?.bundle ?? null
  return path === 'log' && logs?.uri ? { uri: logs.uri, sha256: null } : null
}

function whyNot({ skipped, artifacts }: TaskResult, path: string): string {
  const left = skipped.find(candidate => candidate.path === path)
  if (left) return `it was left out (${left.reason})`
  return artifacts.length === 0 ? 'the task left no artifacts' : 'the task left no artifact of that path'
}
