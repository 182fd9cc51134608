import { closeSync, constants, openSync, readlinkSync } from 'node:fs'
import { TaskFailure } from '@agirunner/contracts'
import type { HostRoot } from '../../support/host-roots.js'
import { entryOf, namesOf, openFolder, openFolders } from './folders.js'

/** As many as the kernel follows. */
const MAX_LINKS = 40

/** The answer for everything outside, there or not: a task's author learns nothing of the host. */
function forbiddenFolder(path: string): TaskFailure {
  return new TaskFailure(
    'spec.forbidden',
    `workspace.source.path ${JSON.stringify(path)} is not below a folder that this worker's operator allows`,
    {
      phase: 'workspace',
      hint: 'name a folder below one of AGIRUNNER_HOST_ROOTS, or have the operator add it',
    },
  )
}

/**
 * Opens a folder below the operator's roots. Links are resolved here, one component at a time and never by the kernel,
 * so that nothing outside is touched, not even to see whether it is there; and what was checked is what is open,
 * whatever is swapped meanwhile.
 *
 * @returns an open folder, to be closed
 * @throws TaskFailure `spec.forbidden` for what leads out, `workspace.not_found` for what isn't there or is no folder
 */
export function openHostFolder(roots: readonly HostRoot[], path: string): number {
  const walk = new Walk(roots, path)
  try {
    return walk.arrive()
  } finally {
    walk.close()
  }
}

const toBytes = (text: string) => Buffer.from(text).toString('latin1')

/** Paths in here hold bytes as latin1. */
class Walk {
  readonly #shown: string
  readonly #roots: readonly { names: readonly string[]; real: readonly string[] }[]
  /** From the root down to where the walk is. */
  readonly #folders: number[] = []
  /** The names still to go, the next one last. */
  readonly #pending: string[] = []
  #links = 0

  constructor(roots: readonly HostRoot[], path: string) {
    this.#shown = path
    this.#roots = roots.flatMap(root => {
      const real = namesOf(toBytes(root.real))
      return [
        { names: namesOf(toBytes(root.path)), real },
        { names: real, real },
      ]
    })
  }

  arrive(): number {
    this.#enter(toBytes(this.#shown))
    for (let name = this.#pending.pop(); name !== undefined; name = this.#pending.pop()) {
      if (name === '..') this.#leave()
      else this.#step(name)
    }
    return this.#folders.pop() as number
  }

  close(): void {
    for (const folder of this.#folders.splice(0)) closeSync(folder)
  }

  /** Starts over from the outermost root that an absolute path lies in. */
  #enter(path: string): void {
    const names = namesOf(path)
    const root = this.#roots
      .filter(candidate => candidate.names.every((name, index) => names[index] === name))
      .toSorted((a, b) => a.real.length - b.real.length)[0]
    if (!path.startsWith('/') || !root) throw forbiddenFolder(this.#shown)
    this.close()
    this.#folders.push(this.#tried(() => openReal(root.real)))
    this.#pending.push(...names.slice(root.names.length).toReversed())
  }

  #leave(): void {
    if (this.#folders.length === 1) throw forbiddenFolder(this.#shown)
    closeSync(this.#folders.pop() as number)
  }

  #step(name: string): void {
    const here = this.#folders.at(-1) as number
    try {
      this.#folders.push(openFolder(here, name))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOTDIR' && code !== 'ELOOP') throw this.#failure(error)
      this.#follow(this.#tried(() => readlinkSync(entryOf(here, name), 'buffer').toString('latin1')))
    }
  }

  #follow(target: string): void {
    this.#links += 1
    if (this.#links > MAX_LINKS) throw this.#missing('its links lead in circles')
    if (target.startsWith('/')) this.#enter(target)
    else this.#pending.push(...namesOf(target).toReversed())
  }

  #tried<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw this.#failure(error)
    }
  }

  #failure(error: unknown): unknown {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return this.#missing('there is nothing')
    // EINVAL: neither a folder nor a link.
    if (code === 'EINVAL' || code === 'ENOTDIR' || code === 'ELOOP') return this.#missing('it is no folder')
    if (code === 'ENAMETOOLONG') return this.#missing('a name in it is too long')
    if (code !== 'EACCES' && code !== 'EPERM') return error
    return new TaskFailure(
      'spec.forbidden',
      `workspace.source.path ${JSON.stringify(this.#shown)} can't be read by this worker's user`,
      { hint: "have the operator let the worker's user read the folder" },
    )
  }

  #missing(why: string): TaskFailure {
    return new TaskFailure(
      'workspace.not_found',
      `workspace.source.path ${JSON.stringify(this.#shown)} names no folder of the host; ${why}`,
      { hint: 'correct workspace.source.path, or make the folder' },
    )
  }
}

/** A real path has no links: one that has come since is not followed. */
function openReal(names: readonly string[]): number {
  const top = openSync('/', constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return openFolders(top, names)
  } finally {
    closeSync(top)
  }
}
