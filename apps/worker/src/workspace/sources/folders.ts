import { closeSync, constants, openSync } from 'node:fs'

const { O_DIRECTORY, O_NOFOLLOW } = constants
/** Of Linux, open(2): only a place to go on from, for which a folder need not be readable. Node does not name it. */
const O_PATH = 0o10000000

/**
 * The path of a name in an open folder, whatever has become of the folder's own name meanwhile: what openat(2) is for,
 * which Node does not have.
 *
 * @param name one component, its bytes as latin1
 */
export function entryOf(folder: number, name: string): Buffer {
  return Buffer.from(`/proc/self/fd/${folder}/${name}`, 'latin1')
}

/** Opens a folder in an open folder. @throws ENOTDIR or ELOOP for a link, also when it was none a moment ago */
export function openFolder(parent: number, name: string): number {
  return openSync(entryOf(parent, name), O_PATH | O_DIRECTORY | O_NOFOLLOW)
}

/** Goes down from an open folder, through folders only. @returns a folder of the caller's, to be closed */
export function openFolders(from: number, names: readonly string[]): number {
  let folder = openFolder(from, '.')
  for (const name of names) {
    const parent = folder
    try {
      folder = openFolder(parent, name)
    } finally {
      closeSync(parent)
    }
  }
  return folder
}

/** The components of a path; empty ones and `.` mean nothing. */
export function namesOf(path: string): string[] {
  return path.split('/').filter(name => name !== '' && name !== '.')
}
