import type { Changes } from '@agirunner/contracts'
import { readHead } from '../../workspace/git/head.js'
import { hashObject, ObjectStore } from '../../workspace/git/objects.js'
import { parseCommit } from '../../workspace/git/tree.js'
import type { WorkTree } from './work-tree.js'

type Commit = Changes['commits'][number]

/** More commits than this are left out, with a note. */
const MAX_COMMITS = 1000
const MAX_COMMIT_BYTES = 2 ** 20
const MAX_MESSAGE = 16 * 1024

/**
 * The commits that the task's HEAD reaches and the snapshot does not have, oldest first. The task's `.git` may hold
 * anything: only HEAD, refs and objects are looked at, no link is followed, and neither its config nor its alternates
 * are read.
 *
 * @param known whether a commit is the snapshot's own
 */
export function readCommits(
  tree: WorkTree,
  known: (oid: string) => boolean,
): { commits: Commit[]; notes: string[] } {
  try {
    const head = headOf(tree)
    return head === null ? { commits: [], notes: [] } : walk(tree, head, known)
  } catch (error) {
    return { commits: [], notes: [`the task's commits can't be read: ${(error as Error).message}`] }
  }
}

/** The commit that the task's HEAD names; null for a branch without one. @throws Error when it makes no sense */
export function headOf(tree: WorkTree): string | null {
  return readHead((path, maxBytes) => readPlain(tree, path, maxBytes))
}

function readPlain(tree: WorkTree, path: string, maxBytes: number): string | null {
  if (!tree.isReached(path) || !tree.look(path)?.isFile()) return null
  return tree.read(path, maxBytes).toString('utf8')
}

function walk(
  tree: WorkTree,
  head: string,
  known: (oid: string) => boolean,
): { commits: Commit[]; notes: string[] } {
  const store = openCommits(tree)
  const found = new Map<string, Commit>()
  const notes: string[] = []
  try {
    const pending = [head]
    for (let oid = pending.shift(); oid !== undefined; oid = pending.shift()) {
      if (found.has(oid) || known(oid)) continue
      if (found.size === MAX_COMMITS) {
        notes.push(`the task made more than ${MAX_COMMITS} commits; the oldest are left out`)
        break
      }
      const { data } = store.read(oid, 'commit')
      if (hashObject('commit', data) !== oid) throw new Error(`commit ${oid} is not what its name says`)
      const { parents, author, message } = parseCommit(data)
      found.set(oid, { sha: oid, author: parseAuthor(author), message: message.slice(0, MAX_MESSAGE) })
      pending.push(...parents)
    }
  } catch (error) {
    notes.push(`not all of the task's commits can be read: ${(error as Error).message}`)
  } finally {
    store.close()
  }
  return { commits: [...found.values()].toReversed(), notes }
}

/** The commits of a `.git` that nobody trusts. */
export function openCommits(tree: WorkTree): ObjectStore {
  return openObjects(tree, MAX_COMMIT_BYTES)
}

/** The objects of a `.git` that nobody trusts, read component by component; alternates mean nothing. */
export function openObjects(tree: WorkTree, maxBytes: number): ObjectStore {
  return new ObjectStore('.git', maxBytes, {
    list: (path: string) => (tree.isReached(path) && tree.look(path)?.isDirectory() ? tree.list(path) : []),
    open: (path: string) => {
      if (!tree.isReached(path) || !tree.look(path)?.isFile()) return null
      return tree.open(path)
    },
  })
}

function parseAuthor(line: string): Commit['author'] {
  const match = /^(.*?) ?<([^>]*)>/.exec(line)
  return { name: match?.[1] ?? '', email: match?.[2] ?? '' }
}
