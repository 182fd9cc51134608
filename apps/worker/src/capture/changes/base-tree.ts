import { EMPTY_TREE, hashObject, type ObjectStore } from '../../workspace/git/objects.js'
import { MODE, parseCommit, parseTree, serializeTree, type TreeEntry } from '../../workspace/git/tree.js'
import type { Entry } from './change.js'

/** What a task's files are compared with. Paths and names hold bytes as latin1. */
export interface BaseTree {
  /** The id of the whole tree. */
  readonly root: string
  /** The entries of a tree by name; of none for null. */
  folder(oid: string | null): ReadonlyMap<string, TreeEntry>
  /** What a path is; null when it isn't there or is a folder. */
  find(path: string): Entry | null
  /** Every file below a tree, with its path below `prefix`. */
  files(oid: string, prefix: string): Iterable<{ path: string; entry: Entry }>
  /** What an entry holds: a blob's bytes, or the line that stands for a submodule's commit in a patch. */
  content(entry: Entry): Buffer
  /** A blob's bytes; null for what is no blob of the base's. */
  blob(oid: string): Buffer | null
  /** Whether a commit was there before the task. */
  hasCommit(oid: string): boolean
  /** Whether a file was there without being part of the tree: what it is now can't be told as a change. */
  isAside(path: string): boolean
  /** Everything that it is made of, where that is not a commit which others have as well; null where it is one. */
  objects(): Iterable<BaseObject> | null
  close(): void
}

export interface BaseObject {
  readonly type: 'tree' | 'blob'
  readonly oid: string
  read(): Buffer
}

/** How trees are walked, wherever their entries come from. */
export abstract class WalkedTree {
  abstract readonly root: string
  abstract folder(oid: string | null): ReadonlyMap<string, TreeEntry>

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

  *files(oid: string, prefix: string): Generator<{ path: string; entry: Entry }> {
    for (const entry of this.folder(oid).values()) {
      const path = `${prefix}${entry.name}`
      if (entry.mode === MODE.tree) yield* this.files(entry.oid, `${path}/`)
      else yield { path, entry: { mode: entry.mode, oid: entry.oid } }
    }
  }
}

/** The tree of the base commit, read folder by folder from the snapshot's own objects. */
export class CommitTree extends WalkedTree implements BaseTree {
  readonly root: string
  readonly #store: ObjectStore
  readonly #folders = new Map<string, ReadonlyMap<string, TreeEntry>>()

  /** @param commit null for a repository without one */
  constructor(store: ObjectStore, commit: string | null) {
    super()
    this.#store = store
    this.root = commit === null ? EMPTY_TREE : parseCommit(store.read(commit, 'commit').data).tree
  }

  folder(oid: string | null): ReadonlyMap<string, TreeEntry> {
    if (oid === null) return new Map()
    const known = this.#folders.get(oid)
    if (known) return known
    const entries = new Map(parseTree(this.#store.read(oid, 'tree').data).map(entry => [entry.name, entry]))
    this.#folders.set(oid, entries)
    return entries
  }

  content({ mode, oid }: Entry): Buffer {
    if (mode === MODE.gitlink) return Buffer.from(`Subproject commit ${oid}\n`)
    return this.#store.read(oid, 'blob').data
  }

  blob(oid: string): Buffer | null {
    const object = this.#store.has(oid) ? this.#store.read(oid) : null
    return object?.type === 'blob' ? object.data : null
  }

  hasCommit(oid: string): boolean {
    return this.#store.has(oid)
  }

  /** A snapshot holds its commit's files alone. */
  isAside(): boolean {
    return false
  }

  /** Its commit is the server's, or there is none and nothing in it. */
  objects(): null {
    return null
  }

  close(): void {
    this.#store.close()
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
 * @param made gets the trees that the base does not have at the same place: id → bytes
 */
export function treeAfter(
  base: BaseTree,
  changes: ReadonlyMap<string, Entry | null>,
  made: Map<string, Buffer> | null = null,
): string {
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
  return apply(base, base.root, root, made) ?? EMPTY_TREE
}

/** @returns the folder's new tree, null when nothing is left in it */
function apply(
  base: BaseTree,
  oid: string | null,
  node: Node,
  made: Map<string, Buffer> | null,
): string | null {
  const entries = new Map(base.folder(oid))
  for (const [name, child] of node.folders) {
    const there = entries.get(name)
    const below = apply(base, there?.mode === MODE.tree ? there.oid : null, child, made)
    if (below !== null) entries.set(name, { mode: MODE.tree, name, oid: below })
    else if (there?.mode === MODE.tree) entries.delete(name)
  }
  for (const [name, entry] of node.files) {
    if (entry) entries.set(name, { ...entry, name })
    // A folder may have taken the place of a file that is gone.
    else if (entries.get(name)?.mode !== MODE.tree) entries.delete(name)
  }
  if (entries.size === 0) return null
  const data = serializeTree([...entries.values()])
  const after = hashObject('tree', data)
  if (after !== oid) made?.set(after, data)
  return after
}
