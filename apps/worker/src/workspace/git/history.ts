import { TaskFailure } from '@agirunner/contracts/failure'
import type { ObjectStore } from './objects.js'
import { parseCommit, parseTag } from './tree.js'

/** How much of a commit's history is there. */
export interface History {
  /** How many commits were looked at. */
  readonly commits: number
  /** The commits behind which nothing is shown: git's `shallow`. Empty for a whole history. */
  readonly shallow: readonly string[]
}

/**
 * Looks whether the last `depth` generations of a commit are there, and where they end.
 *
 * @param depth in generations; 0 is all of them
 * @param cut commits whose parents the server said it would not give, so that they may be missing
 * @returns null when a commit is missing
 * @throws TaskFailure `workspace.commit_not_found` when it is no commit; ObjectError when one behind it is none
 */
export function walkHistory(
  store: ObjectStore,
  commit: string,
  depth: number,
  cut: ReadonlySet<string>,
): History | null {
  const seen = new Set([commit])
  const shallow: string[] = []
  let generation = [commit]
  for (let level = 1; generation.length > 0; level += 1) {
    const next: string[] = []
    for (const oid of generation) {
      if (!store.has(oid)) return null
      const { parents } = level === 1 ? readAskedCommit(store, oid) : readCommit(store, oid)
      const isCut = cut.has(oid) && parents.some(parent => !store.has(parent))
      if (parents.length > 0 && (level === depth || isCut)) {
        shallow.push(oid)
        continue
      }
      const unseen = new Set(parents.filter(parent => !seen.has(parent)))
      for (const parent of unseen) seen.add(parent)
      next.push(...unseen)
    }
    generation = next
  }
  return { commits: seen.size, shallow: shallow.toSorted() }
}

/** The commit that a task asked for. @throws TaskFailure `workspace.commit_not_found` when the object is something else */
export function readAskedCommit(store: ObjectStore, oid: string): ReturnType<typeof parseCommit> {
  const { type, data } = store.read(oid)
  if (type === 'commit') return parseCommit(data)
  const what = type === 'tag' ? `tag of a ${parseTag(data).type}` : type
  throw new TaskFailure('workspace.commit_not_found', `${oid} is a ${what}, not a commit`)
}

function readCommit(store: ObjectStore, oid: string): ReturnType<typeof parseCommit> {
  return parseCommit(store.read(oid, 'commit').data)
}
