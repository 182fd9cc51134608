import { EMPTY_TREE, hashObject, type ObjectStore } from '../../workspace/git/objects.js'
import { MODE, parseCommit, parseTree, serializeTree, type TreeEntry } from '../../workspace/git/tree.js'
import type { Entry } from './change.js'

/** The tree of the base commit, read folder by folder from the snapshot's own objects. */
export class BaseTree {
  readonly store: ObjectStore
  readonly root: string
  readonly #folders = new Map<string, ReadonlyMap<string, TreeEntry>>()

  /** @param commit null for a repository without one */
  constructor(store: ObjectStore, commit: string | null) {
    this.store = store
    this.root = commit === null ? EMPTY_TREE : parseCommit(store.read(commit, 'commit').data).tree
  }

  /** The entries of a tree by name; of none for null. */
  folder(oid: string | null): ReadonlyMap<string, TreeEntry> {
    if (oid === null) return new Map()
    const known = this.#folders.get(oid)
    if (known) return known
    const entries = new Map(parseTree(this.store.read(oid, 'tree').data).map(entry => [entry.name, entry]))
    this.#folders.set(oid, entries)
    return entries
  }

  /** What a path is in the base commit; null when it isn't there or is a folder. */
  find(path: string): Entry | null {
    let folder: string | null = this.root
    const parts = path.split('/')
    for (const [index, part] of parts.entries()) {
      const entry: TreeEntry | undefined = this.folder(folder).get(part)
      if (!entry) return null
      if (index === parts.length - 1)
        return entry.mode === MODE.tree ? null : { mode: entry.mode, oid: entry.oid }
      if (entry.mode !== MODE.tree) return null
      folder = entry.oid
    }
    return null
  }

  /** Every file below a tree, with its path below `prefix`. */
  *files(oid: string, prefix: string): Generator<{ path: string; entry: Entry }> {
    for (const entry of this.folder(oid).values()) {
      const path = `${prefix}${entry.name}`
      if (entry.mode === MODE.tree) yield* this.files(entry.oid, `${path}/`)
      else yield { path, entry: { mode: entry.mode, oid: entry.oid } }
    }
  }

  /** What an entry holds: a blob's bytes, or the line that stands for a submodule's commit in a patch. */
  content({ mode, oid }: Entry): Buffer {
    if (mode === MODE.gitlink) return Buffer.from(`Subproject commit ${oid}\n`)
    return this.store.read(oid, 'blob').data
  }
}

interface Node {
  readonly files: Map<string, Entry | null>
  readonly folders: Map<string, Node>
}

/**
 * The id of the tree that the base becomes by the changes. Only the folders on the way to a change are read, and
 * nothing is written anywhere.
 *
 * @param changes path → what it is now, null for gone
 */
export function treeAfter(base: BaseTree, changes: ReadonlyMap<string, Entry | null>): string {
  const root: Node = { files: new Map(), folders: new Map() }
  for (const [path, entry] of changes) {
    const parts = path.split('/')
    const name = parts.pop() ?? ''
    let node = root
    for (const part of parts) {
      const next: Node = node.folders.get(part) ?? { files: new Map(), folders: new Map() }
      node.folders.set(part, next)
      node = next
    }
    node.files.set(name, entry)
  }
  return apply(base, base.root, root) ?? EMPTY_TREE
}

/** @returns the folder's new tree, null when nothing is left in it */
function apply(base: BaseTree, oid: string | null, node: Node): string | null {
  const entries = new Map(base.folder(oid))
  for (const [name, child] of node.folders) {
    const there = entries.get(name)
    const below = apply(base, there?.mode === MODE.tree ? there.oid : null, child)
    if (below !== null) entries.set(name, { mode: MODE.tree, name, oid: below })
    else if (there?.mode === MODE.tree) entries.delete(name)
  }
  for (const [name, entry] of node.files) {
    if (entry) entries.set(name, { ...entry, name })
    // A folder may have taken the place of a file that is gone.
    else if (entries.get(name)?.mode !== MODE.tree) entries.delete(name)
  }
  return entries.size === 0 ? null : hashObject('tree', serializeTree([...entries.values()]))
}
