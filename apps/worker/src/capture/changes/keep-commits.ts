import { mkdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts/failure'
import { renderCommit } from '../../workspace/git/commit-object.js'
import { EMPTY_TREE, ObjectStore } from '../../workspace/git/objects.js'
import { indexPack } from '../../workspace/git/pack-index.js'
import { MAX_OBJECT_BYTES } from '../../workspace/git/repository.js'
import { MODE } from '../../workspace/git/tree.js'
import { headOf, openObjects } from './commits.js'
import { type ChangesJob, withView, workTreeOf } from './job.js'
import { CheckedPack, type CommitRequest } from './make-commit.js'
import { TaskObjects, UnfitObject, whyOf } from './task-objects.js'

export interface KeepJob extends Pick<ChangesJob, 'layers' | 'view' | 'slotRoot' | 'commit'> {
  /** The tree that was captured: what the kept commits must lead to. */
  readonly tree: string
  /** Where `makeCommit` has put the captured tree's new objects; null when the tree is the base's. */
  readonly madePack: string | null
  /** How the rest is committed that the task did not commit itself. */
  readonly rest: Pick<CommitRequest, 'by' | 'message'>
  readonly pack: string
  readonly secrets: CommitRequest['secrets']
}

/** The task's own commits on top of the base, and one for what it left uncommitted, as a pack. */
export interface KeptCommits {
  /** The last of them; null when there are none. */
  readonly sha: string | null
  /** All of them, oldest first. */
  readonly commits: readonly string[]
  readonly holdsSecret: boolean
}

/** More commits than these are not kept. */
const MAX_COMMITS = 1000
/** A blob of the task's own making, in bytes: as large as a file that is captured. */
const MAX_BYTES = 256 * 2 ** 20

/**
 * Takes the commits that a task made out of its repository, which may hold anything: only what HEAD reaches and what
 * descends from the base, every object checked as git's own `fsck` would. The last commit's tree is the captured one.
 *
 * @throws TaskFailure `push.rejected` when the commits can't be kept, with the reason
 */
export async function runKeep(job: KeepJob): Promise<KeptCommits> {
  try {
    return withView(job, () => keep(job))
  } catch (error) {
    if (error instanceof TaskFailure) throw error
    throw new TaskFailure('push.rejected', `the task's own commits can't be kept: ${whyOf(error)}`, {
      hint: 'with capture.push.commits "squash" the change is pushed as one commit, whatever the task did to its history',
      cause: error,
    })
  }
}

function keep(job: KeepJob): KeptCommits {
  const tree = workTreeOf(job)
  const head = headOf(tree)
  if (head === null && job.commit !== null) throw new UnfitObject('HEAD names no commit')
  const own = new ObjectStore(join(job.layers.lower, '.git'), MAX_OBJECT_BYTES)
  const theirs = openObjects(tree, MAX_BYTES)
  mkdirSync(dirname(job.pack), { recursive: true, mode: 0o700 })
  rmSync(job.pack, { force: true })
  const pack = new CheckedPack(job.pack, job.secrets)
  try {
    const objects = new TaskObjects(theirs)
    const history = historyOf(head, job.commit, objects, oid => own.has(oid))
    for (const [oid, { data, tree: root }] of history) {
      pack.once(oid, 'commit', () => data)
      putTree(root, { pack, objects, known: at => own.has(at) })
    }
    const commits = [...history.keys()]
    const last = history.get(head ?? '')?.tree ?? treeOf(own, job.commit)
    if (last !== job.tree) commits.push(putRest(job, head, pack, own))
    const { holdsSecret } = pack.end()
    return { sha: commits.at(-1) ?? null, commits, holdsSecret }
  } finally {
    pack.close()
    theirs.close()
    own.close()
  }
}

function treeOf(own: ObjectStore, commit: string | null): string {
  return commit === null ? EMPTY_TREE : new TaskObjects(own).commit(commit).tree
}

type History = Map<string, { data: Buffer; tree: string; parents: string[] }>

/**
 * The commits between the base and HEAD, parents first.
 *
 * @throws UnfitObject when one of them is not on top of the base
 */
function historyOf(
  head: string | null,
  base: string | null,
  objects: TaskObjects,
  known: (oid: string) => boolean,
): History {
  const found: History = new Map()
  const pending = head === null || head === base ? [] : [head]
  for (let oid = pending.at(-1); oid !== undefined; oid = pending.at(-1)) {
    pending.pop()
    if (found.has(oid)) continue
    if (known(oid)) {
      if (oid === head) throw new UnfitObject(`HEAD is at ${oid}, which is not on top of the base commit`)
      continue
    }
    if (found.size === MAX_COMMITS) throw new UnfitObject(`there are more than ${MAX_COMMITS}`)
    const commit = objects.commit(oid)
    found.set(oid, commit)
    pending.push(...commit.parents)
  }
  return parentsFirst(found, base)
}

/** No commit can be among its own ancestors, because its id is the hash of theirs. */
function parentsFirst(found: History, base: string | null): History {
  const sorted: History = new Map()
  const waiting = [...found.keys()]
  for (let oid = waiting.at(-1); oid !== undefined; oid = waiting.at(-1)) {
    const commit = found.get(oid)
    const missing = sorted.has(oid)
      ? []
      : (commit?.parents ?? []).filter(one => found.has(one) && !sorted.has(one))
    if (missing.length > 0) waiting.push(...missing)
    else {
      waiting.pop()
      if (commit && !sorted.has(oid)) {
        const onBase = commit.parents.some(parent => parent === base || sorted.has(parent))
        if (base !== null && !onBase) throw new UnfitObject(`commit ${oid} is not on top of the base commit`)
        sorted.set(oid, commit)
      }
    }
  }
  return sorted
}

interface Sources {
  readonly pack: CheckedPack
  readonly objects: TaskObjects
  readonly known: (oid: string) => boolean
}

function putTree(root: string, { pack, objects, known }: Sources): void {
  const pending = [root]
  for (let oid = pending.pop(); oid !== undefined; oid = pending.pop()) {
    if (pack.has(oid) || known(oid)) continue
    const { data, entries } = objects.tree(oid)
    pack.once(oid, 'tree', () => data)
    for (const entry of entries) {
      if (entry.mode === MODE.tree) pending.push(entry.oid)
      else if (entry.mode !== MODE.gitlink && !known(entry.oid))
        pack.once(entry.oid, 'blob', () => objects.blob(entry.oid))
    }
  }
}

/** What was captured and is in no commit: its objects are those that were captured, not the task's. */
function putRest(job: KeepJob, head: string | null, pack: CheckedPack, own: ObjectStore): string {
  const known = (oid: string) => own.has(oid)
  if (job.madePack === null) pack.once(job.tree, 'tree', () => own.read(job.tree, 'tree').data)
  else {
    indexPack(job.madePack, {
      maxObjectBytes: MAX_OBJECT_BYTES,
      progress: () => undefined,
      known: () => null,
    })
    const made = new ObjectStore(dirname(dirname(dirname(job.madePack))), MAX_OBJECT_BYTES)
    try {
      putTree(job.tree, { pack, objects: new TaskObjects(made), known })
    } finally {
      made.close()
    }
  }
  const parents = head === null ? [] : [head]
  return pack.add('commit', renderCommit({ ...job.rest, tree: job.tree, parents }))
}
