import { ObjectError, type ObjectStore } from './objects.js'
import { parseCommit } from './tree.js'

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
      const { parents } = parseCommit(readCommit(store, oid))
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

function readCommit(store: ObjectStore, oid: string): Buffer {
  const object = store.read(oid)
  if (object.type !== 'commit') throw new ObjectError(`object ${oid} is a ${object.type}, not a commit`)
  return object.data
}
