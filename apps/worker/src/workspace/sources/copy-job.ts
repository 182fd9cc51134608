import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import { TaskFailure } from '@agirunner/contracts'
import type { HostRoot } from '../../support/host-roots.js'
import type { Progress } from '../children/serve.js'
import { readHead } from '../git/head.js'
import { type CopyOptions, copyTree } from './copy-tree.js'
import { entryOf, openFolders } from './folders.js'
import { openHostFolder } from './host-folder.js'

export interface CopyJob extends Omit<CopyOptions, 'progress'> {
  readonly roots: readonly HostRoot[]
  /** As the task names it. */
  readonly path: string
}

export interface CopiedFolder {
  /** What the copy's own HEAD says; null when it is no git work tree, has no commit, or can't be told. */
  readonly commit: string | null
  readonly notes: readonly string[]
}

/**
 * Copies a folder of the host.
 *
 * @throws TaskFailure `spec.forbidden`, `workspace.not_found`, `workspace.too_large`, `workspace.unsafe_tree`
 */
export async function runCopy(job: CopyJob, progress: Progress): Promise<CopiedFolder> {
  const folder = openHostFolder(job.roots, job.path)
  try {
    const notes = copyTree(folder, { ...job, progress: done => progress({ stage: 'copy', ...done }) })
    return { commit: headOf(job.target), notes }
  } catch (error) {
    throw asFailure(error, job.path)
  } finally {
    closeSync(folder)
  }
}

/** Without the system's own words: they hold paths of the host. */
function asFailure(error: unknown, path: string): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException
  if (error instanceof TaskFailure || syscall === undefined) return error
  if (code === 'EACCES' || code === 'EPERM') {
    return new TaskFailure(
      'spec.forbidden',
      `not all of ${JSON.stringify(path)} can be read by this worker's user`,
      { hint: "have the operator let the worker's user read the folder" },
    )
  }
  return new TaskFailure(
    'workspace.remote_broken',
    `copying ${JSON.stringify(path)} failed; ${syscall} says ${code}`,
    { hint: "look at the worker's disk and at the folder, then try again", cause: error },
  )
}

/** Read from the copy, which nobody writes to any more. */
function headOf(target: string): string | null {
  try {
    return readHead((path, maxBytes) => readPlain(target, path, maxBytes))
  } catch {
    return null
  }
}

function readPlain(root: string, path: string, maxBytes: number): string | null {
  const names = path.split('/')
  const name = names.pop() ?? ''
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants
  const open: number[] = []
  try {
    const top = openSync(root, O_RDONLY | O_DIRECTORY)
    open.push(top)
    const folder = openFolders(top, names)
    open.push(folder)
    const file = openSync(entryOf(folder, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    open.push(file)
    const stat = fstatSync(file)
    return stat.isFile() && stat.size <= maxBytes ? readFileSync(file, 'utf8') : null
  } catch {
    return null
  } finally {
    for (const fd of open) closeSync(fd)
  }
}
