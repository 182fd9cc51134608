import { closeSync, openSync } from 'node:fs'
import { entryOf, openFolder } from '../../workspace/sources/folders.js'

/** How many folders of one tree are held open at once: a task may have made thousands within each other. */
const MAX_OPEN = 64

/** Every one that has folders open, so that none keeps a disk from being unmounted. */
const inUse = new Set<OpenFolders>()

/** To be called when nobody reads any tree any more. */
export function closeAllFolders(): void {
  for (const folders of inUse) folders.close()
}

/**
 * The folders on the way to where a tree is read, held open: each was opened within the one before, and none through a
 * link. So what takes a folder's place later leads nowhere, and a path may be longer than any that a kernel takes.
 */
export class OpenFolders {
  readonly #root: string
  /** From the root down, each somewhere within the one before. */
  readonly #open: { readonly path: string; readonly fd: number }[] = []

  /** @param root its bytes as latin1; a folder of ours */
  constructor(root: string) {
    this.#root = root
  }

  /**
   * @param path of an entry, its bytes as latin1
   * @returns where the entry is to be found, as long as nothing else is asked for
   * @throws Error as open does, when a folder on the way is none
   */
  entry(path: string): Buffer {
    const slash = path.lastIndexOf('/')
    return entryOf(this.folder(path.slice(0, Math.max(0, slash))), path.slice(slash + 1))
  }

  /** @returns the folder at `path`, open as long as nothing else is asked for */
  folder(path: string): number {
    let at = this.#comeBackTo(path)
    const rest = path.slice(at.path === '' ? 0 : at.path.length + 1)
    for (const name of rest === '' ? [] : rest.split('/')) {
      at = { path: at.path === '' ? name : `${at.path}/${name}`, fd: openFolder(at.fd, name) }
      this.#open.push(at)
      if (this.#open.length > MAX_OPEN) for (const { fd } of this.#open.splice(1, 1)) closeSync(fd)
    }
    return at.fd
  }

  close(): void {
    for (const { fd } of this.#open) closeSync(fd)
    this.#open.length = 0
    inUse.delete(this)
  }

  /** Closes what does not lead to `path`. @returns the last that does */
  #comeBackTo(path: string): { readonly path: string; readonly fd: number } {
    for (let last = this.#open.at(-1); last !== undefined; last = this.#open.at(-1)) {
      if (last.path === '' || last.path === path || path.startsWith(`${last.path}/`)) return last
      closeSync(last.fd)
      this.#open.pop()
    }
    inUse.add(this)
    const root = { path: '', fd: openSync(Buffer.from(this.#root, 'latin1'), 'r') }
    this.#open.push(root)
    return root
  }
}
