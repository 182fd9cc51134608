import { execFile, execFileSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Changes } from '@agirunner/contracts'
import { TaskFailure } from '@agirunner/contracts/failure'
import { CHILD_ENV } from '../../support/program.js'
import { readSpecials } from '../../workspace/archive/specials.js'
import { hashObject, ObjectStore } from '../../workspace/git/objects.js'
import { MAX_OBJECT_BYTES } from '../../workspace/git/repository.js'
import { isOverlay, type RepositoryLayers, type WorkspacePlan } from '../../workspace/plan.js'
import { type BaseTree, CommitTree, treeAfter } from './base-tree.js'
import { readCommits } from './commits.js'
import { FolderTree } from './folder-tree.js'
import { forgetUntracked } from './forgotten.js'
import { type CommitRequest, type MadeCommit, makeCommit } from './make-commit.js'
import { closeAllFolders } from './open-folders.js'
import { type Contents, findRenames, writePatch } from './patch.js'
import { Scan } from './scan.js'
import { untouchedSince } from './scan-copy.js'
import { scanOverlay } from './scan-overlay.js'

import { NO_INDEX, readIndex } from './task-index.js'
import { secretSearch, type ToldSecret } from './told-secrets.js'

import { treeOfPatch } from './verify.js'
import { WorkTree } from './work-tree.js'

export interface ChangesJob {
  readonly layers: RepositoryLayers
  /** An empty folder to mount the merged view on. */
  readonly view: string
  readonly slotRoot: string
  readonly compareWith: WorkspacePlan['compareWith']
  /** The base; null for an empty repository, or a folder without one. */
  readonly commit: string | null
  /** What is known of the workspace before anything is compared. */
  readonly notes: readonly string[]
  readonly placed: readonly string[]
  readonly patchFile: string
  /** A patch that holds one of these is withheld. */
  readonly secrets: readonly ToldSecret[]
  /** Null where no commit is asked for. */
  readonly make: CommitRequest | null
}

/** Null as `patch` when nothing changed, or when a secret is in it; then no file is written. */
export interface CapturedChanges {
  readonly changes: Omit<Changes, 'patch'>
  readonly patch: { readonly sizeBytes: number; readonly sha256: string } | null
  /** Null where none was asked for, or nothing changed. */
  readonly made: MadeCommit | null
}

/**
 * Reads the changes of one workspace: what differs, the tree it gives, the patch, and the proof that the patch gives
 * that tree.
 *
 * @throws TaskFailure `capture.failed`
 */
export async function runChanges(job: ChangesJob): Promise<CapturedChanges> {
  try {
    return withView(job, () => withBase(job))
  } catch (error) {
    rmSync(job.patchFile, { force: true })
    if (job.make?.bundle) rmSync(job.make.bundle, { force: true })
    if (error instanceof TaskFailure) throw error
    throw new TaskFailure('capture.failed', `reading the changes failed; ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** Has the workspace where `workTreeOf` looks for it while `work` runs. */
export function withView<T>({ layers, view }: Pick<ChangesJob, 'layers' | 'view'>, work: () => T): T {
  const unmount = isOverlay(layers) ? mountView(layers, view) : () => undefined
  try {
    return work()
  } finally {
    closeAllFolders()
    unmount()
  }
}

function withBase(job: ChangesJob): CapturedChanges {
  const base = openBase(job)
  try {
    return capture(job, base)
  } finally {
    base.close()
  }
}

function openBase({ layers, compareWith, commit }: ChangesJob): BaseTree {
  if (compareWith === 'folder') return new FolderTree(new WorkTree(layers.lower), commit)
  return new CommitTree(new ObjectStore(join(layers.lower, '.git'), MAX_OBJECT_BYTES), commit)
}

function capture(job: ChangesJob, base: BaseTree): CapturedChanges {
  const tree = workTreeOf(job)
  const scan = scanAll(job, base, tree)
  const { commits, notes } = commitsOf(job, base, tree)
  const trees = job.make && new Map<string, Buffer>()
  const expected = treeAfter(base, new Map(scan.changes.map(change => [change.path, change.after])), trees)
  const common = {
    tree: expected,
    commits,
    commit: null,
    bundle: null,
    pushed: null,
    notes: [...job.notes, ...scan.notes, ...notes],
  }
  if (scan.changes.length === 0)
    return { changes: { files: [], insertions: 0, deletions: 0, ...common }, patch: null, made: null }
  const holdsSecret = secretSearch(job.secrets)
  let found = scan.changes.some(({ path }) => holdsSecret(Buffer.from(path, 'latin1')))
  const contents = watched(contentsOf(base, scan), bytes => {
    found ||= holdsSecret(bytes)
  })
  const { files, insertions, deletions, ...patch } = writePatch(
    findRenames(scan.changes),
    contents,
    job.patchFile,
  )
  const given = treeOfPatch(job.patchFile, base)
  if (given !== expected) throw new Error(`the patch gives tree ${given}, but the work tree is ${expected}`)
  const change = {
    base,
    commit: job.commit,
    changes: scan.changes,
    tree: expected,
    content: contents.after.bind(contents),
  }
  const made = job.make && trees ? makeCommit(job.make, { ...change, trees }) : null
  const summary = { files, insertions, deletions, ...common }
  if (!found) return { changes: summary, patch, made }
  rmSync(job.patchFile)
  return { changes: { ...summary, notes: [...summary.notes, WITHHELD] }, patch: null, made }
}

const WITHHELD = 'the patch holds one of the task’s secrets, so it is withheld'

/** Shows what a task brings to somebody else as well. */
function watched(contents: Contents, look: (bytes: Buffer) => void): Contents {
  return {
    before: entry => contents.before(entry),
    after: (path, entry) => {
      const bytes = contents.after(path, entry)
      look(bytes)
      return bytes
    },
  }
}

/** A folder need not be a repository; one that the task makes of it is read like any other. */
function commitsOf(job: ChangesJob, base: BaseTree, tree: WorkTree): ReturnType<typeof readCommits> {
  if (job.compareWith === 'folder' && !tree.look('.git')) return { commits: [], notes: [] }
  return readCommits(tree, oid => base.hasCommit(oid))
}

function scanAll({ layers, placed, slotRoot }: ChangesJob, base: BaseTree, tree: WorkTree): Scan {
  const index = once(() => readIndex(tree))
  const isUntouched = layers.strategy === 'copy' ? untouchedSince(slotRoot, tree) : () => false
  const names = new Set(placed.map(path => Buffer.from(path).toString('latin1')))
  const pristine = new WorkTree(layers.lower)
  const tracked = () => index() ?? NO_INDEX
  const scan = new Scan({ base, tree, pristine, placed: names, isUntouched, tracked })
  if (!isOverlay(layers)) scan.compareFolder('', base.root)
  else
    scanOverlay(scan, { upper: new WorkTree(layers.upper), lower: new WorkTree(layers.lower), merged: tree })
  forgetUntracked(scan, base, { tree, pristine, index })
  return scan
}

/** The repository as the task left it, on this disk. */
export function workTreeOf({
  layers,
  view,
  slotRoot,
}: Pick<ChangesJob, 'layers' | 'view' | 'slotRoot'>): WorkTree {
  if (isOverlay(layers)) return new WorkTree(view)
  return new WorkTree(layers.copy, layers.strategy === 'archive' ? readSpecials(slotRoot) : undefined)
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | null = null
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

/** What a file held when it was compared it must still hold when it is written. */
function contentsOf(base: BaseTree, scan: Scan) {
  return {
    before: base.content.bind(base),
    after: (path: string, { mode, oid }: { mode: Parameters<Scan['content']>[1]; oid: string }) => {
      const data = scan.content(path, mode)
      if (hashObject('blob', data) !== oid) throw new Error(`${path} changed while it was read`)
      return data
    },
  }
}

/**
 * Shows the layers as the task saw them, read-only and without an upper layer, so that nothing can be written. This
 * process has a mount namespace of its own: nobody else sees the mount, and it ends with the process at the latest.
 */
function mountView({ lower, upper }: { lower: string; upper: string }, view: string): () => void {
  const options = `ro,lowerdir=${upper}:${lower},redirect_dir=follow,metacopy=off,index=off`
  execFileSync('mount', ['-t', 'overlay', '-o', options, 'overlay', view], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: CHILD_ENV,
  })
  // Not waited for: whoever asked need not know when the view is gone.
  return () => void execFile('umount', ['-l', view], { env: CHILD_ENV }, () => undefined)
}
