import type { ObjectStore } from './objects.js'
import { MODE, parseCommit, parseTag, parseTree } from './tree.js'

/**
 * Everything that a clone of a commit holds: the commit with its history up to where it is cut, their trees and files,
 * and the tag that names it. Nothing of other repositories: a submodule is only a name.
 *
 * @param want the commit, or an annotated tag of it
 * @param shallow the commits behind which nothing is shown
 */
export function closureOf(
  store: ObjectStore,
  want: string,
  commit: string,
  shallow: ReadonlySet<string>,
): ReadonlySet<string> {
  const found = new Set<string>()
  for (let tag = want; tag !== commit && !found.has(tag); tag = parseTag(store.read(tag, 'tag').data).object)
    found.add(tag)
  const commits = [commit]
  for (let oid = commits.pop(); oid !== undefined; oid = commits.pop()) {
    if (found.has(oid)) continue
    found.add(oid)
    const { tree, parents } = parseCommit(store.read(oid, 'commit').data)
    addTree(store, tree, found)
    if (!shallow.has(oid)) commits.push(...parents)
  }
  return found
}

function addTree(store: ObjectStore, root: string, found: Set<string>): void {
  const trees = [root]
  for (let oid = trees.pop(); oid !== undefined; oid = trees.pop()) {
    if (found.has(oid)) continue
    found.add(oid)
    for (const entry of parseTree(store.read(oid, 'tree').data)) {
      if (entry.mode === MODE.tree) trees.push(entry.oid)
      else if (entry.mode !== MODE.gitlink) found.add(entry.oid)
    }
  }
}
