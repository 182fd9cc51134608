import { hashObject, ObjectError, type ObjectStore, type ObjectType } from '../../workspace/git/objects.js'
import {
  compareNames,
  parseTree,
  serializeTree,
  type TreeEntry,
  unsafeEntry,
} from '../../workspace/git/tree.js'

/** An object of the task's that may not leave this machine, and why. */
export class UnfitObject extends Error {}

const MAX_OBJECTS = 200_000
/** Unfolded, over all objects. */
const MAX_BYTES = 2 * 2 ** 30
const MAX_HEAD_LINES = 10_000
const IDENT = /^[^<>\n]*<[^<>\n]*> \d{1,15} [+-]\d{4}$/

/**
 * Objects from a repository that a task could write to as it liked: each is what its name says, is made as git would make
 * it, and there are not too many of them.
 */
export class TaskObjects {
  readonly #store: ObjectStore
  #count = 0
  #bytes = 0

  constructor(store: ObjectStore) {
    this.#store = store
  }

  /** @throws UnfitObject, ObjectError */
  commit(oid: string): { data: Buffer; tree: string; parents: string[] } {
    const data = this.#read(oid, 'commit')
    return { data, ...checkedCommit(oid, data) }
  }

  /** @throws UnfitObject, ObjectError */
  tree(oid: string): { data: Buffer; entries: readonly TreeEntry[] } {
    const data = this.#read(oid, 'tree')
    return { data, entries: checkedTree(oid, data) }
  }

  /** @throws UnfitObject, ObjectError */
  blob(oid: string): Buffer {
    return this.#read(oid, 'blob')
  }

  #read(oid: string, type: ObjectType): Buffer {
    this.#count += 1
    if (this.#count > MAX_OBJECTS) throw new UnfitObject(`there are more than ${MAX_OBJECTS} objects`)
    const { data } = this.#store.read(oid, type)
    this.#bytes += data.length
    if (this.#bytes > MAX_BYTES) throw new UnfitObject(`the objects hold more than ${MAX_BYTES} bytes`)
    if (hashObject(type, data) !== oid) throw new UnfitObject(`${type} ${oid} is not what its name says`)
    return data
  }
}

/** As `git fsck` reads a commit: one tree, parents, one author, one committer, in this order, and no NUL. */
function checkedCommit(oid: string, data: Buffer): { tree: string; parents: string[] } {
  const unfit = (why: string) => new UnfitObject(`commit ${oid} ${why}`)
  if (data.includes(0)) throw unfit('holds a NUL byte')
  const end = data.indexOf('\n\n')
  if (end < 0) throw unfit('has no message')
  const lines = data.toString('latin1', 0, end).split('\n')
  if (lines.length > MAX_HEAD_LINES) throw unfit('has too many lines before its message')
  const take = (pattern: RegExp) => {
    const found = pattern.exec(lines[0] ?? '')
    if (found) lines.shift()
    return found?.[1] ?? null
  }
  const tree = take(/^tree ([0-9a-f]{40})$/)
  if (tree === null) throw unfit('names no tree')
  const parents: string[] = []
  for (let parent = take(PARENT); parent !== null; parent = take(PARENT)) parents.push(parent)
  for (const who of ['author', 'committer']) {
    const ident = take(new RegExp(`^${who} (.*)$`))
    if (ident === null || !IDENT.test(ident)) throw unfit(`has no valid ${who}`)
  }
  if (lines.some(line => /^(tree|parent|author|committer) /.test(line))) throw unfit('says something twice')
  return { tree, parents }
}

const PARENT = /^parent ([0-9a-f]{40})$/

/** As `git fsck` reads a tree: sorted, each name once, and none that would mean something else to somebody. */
function checkedTree(oid: string, data: Buffer): readonly TreeEntry[] {
  const unfit = (why: string) => new UnfitObject(`tree ${oid} ${why}`)
  const entries = parseTree(data)
  // Written again it must be the same: sorted, with the modes that git writes.
  if (!serializeTree(entries).equals(data)) throw unfit('is not written as git writes trees')
  const names = entries.map(({ name }) => name).toSorted(compareNames)
  if (names.some((name, index) => name === names[index + 1])) throw unfit('has a name twice')
  for (const entry of entries) {
    const why = unsafeEntry(entry)
    if (why !== null) throw unfit(`has an entry whose name ${why}`)
    if (/^0+$/.test(entry.oid)) throw unfit('has an entry that is nothing')
  }
  return entries
}

/** What somebody else's repository could not be read as is said in its words. */
export function whyOf(error: unknown): string {
  if (error instanceof UnfitObject || error instanceof ObjectError) return error.message
  return `its objects can't be read; ${error instanceof Error ? error.message : String(error)}`.slice(0, 300)
}
