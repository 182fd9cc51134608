import { realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

/** A folder of the worker's machine below which tasks may name their own. */
export interface HostRoot {
  /** As the operator wrote it; absolute, without `.` and `..`. */
  readonly path: string
  /** The same with every link resolved. */
  readonly real: string
}

/** A folder that no root may hold, lie in, or be: tasks would read there what is not theirs. */
export interface Reserved {
  readonly name: string
  readonly path: string
}

/** What the kernel shows of itself is neither a folder to copy nor for tasks to see. */
const KERNEL = ['/proc', '/sys', '/dev']

/**
 * Reads AGIRUNNER_HOST_ROOTS: absolute folders, separated by colons or commas.
 *
 * @returns the roots, and one line for each entry that can't be one
 */
export function readHostRoots(
  text: string,
  reserved: readonly Reserved[],
): { roots: HostRoot[]; problems: string[] } {
  const roots: HostRoot[] = []
  const problems: string[] = []
  for (const path of text === '' ? [] : text.split(/[:,]/)) {
    const root = readRoot(path, reserved)
    if (typeof root === 'string') problems.push(`${JSON.stringify(path)} ${root}`)
    else roots.push(root)
  }
  return { roots, problems }
}

/** @returns why it can't be one, as text */
function readRoot(path: string, reserved: readonly Reserved[]): HostRoot | string {
  if (!path.startsWith('/')) return 'must be an absolute path'
  if (path.includes('\0') || path.split('/').some(name => name === '.' || name === '..'))
    return 'must not hold "." or ".."'
  let real: string
  try {
    if (!statSync(path).isDirectory()) return 'is no folder'
    real = realpathSync(path)
  } catch (error) {
    return `can't be read (${(error as NodeJS.ErrnoException).code})`
  }
  if (real === '/') return 'is the whole machine'
  if (KERNEL.some(folder => isWithin(real, folder))) return "is the kernel's"
  const touched = reserved.find(folder => overlaps(real, realOf(folder.path)))
  return touched ? `must be apart from ${touched.name}, ${touched.path}` : { path, real }
}

function overlaps(a: string, b: string): boolean {
  return isWithin(a, b) || isWithin(b, a)
}

/** Whether a path is a folder or below it; both without links. */
function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder === '/' ? '/' : `${folder}/`)
}

/** The real path of what need not be there yet. */
function realOf(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    const parent = dirname(path)
    return parent === path ? path : join(realOf(parent), basename(path))
  }
}
