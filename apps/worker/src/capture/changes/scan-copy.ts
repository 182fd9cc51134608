import { type BigIntStats, lstatSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { WorkTree } from './work-tree.js'

/**
 * Tells which files of a copy can't have changed since it was made. The task can set a file's modification time, but not
 * its change time, which also moves when it is renamed; and a folder that took another's place has another inode than
 * the one noted at that path after copying.
 *
 * @param slotRoot holds `copied`: `<inode> <path>\0` for each folder, written when the copy was whole
 */
export function untouchedSince(
  slotRoot: string,
  tree: WorkTree,
): (folder: string, stat: BigIntStats) => boolean {
  const file = join(slotRoot, 'copied')
  const since = lstatSync(file, { bigint: true }).birthtimeNs
  const inodes = readInodes(readFileSync(file, 'latin1'))
  const settled = new Map<string, boolean>([['', true]])
  const isInPlace = (folder: string): boolean => {
    const known = settled.get(folder)
    if (known !== undefined) return known
    const parent = folder.slice(0, Math.max(0, folder.lastIndexOf('/')))
    const inPlace = isInPlace(parent) && tree.look(folder)?.ino === inodes.get(folder)
    settled.set(folder, inPlace)
    return inPlace
  }
  return (folder, stat) => stat.ctimeNs < since && isInPlace(folder)
}

function readInodes(text: string): Map<string, bigint> {
  const inodes = new Map<string, bigint>()
  for (const line of text.split('\0')) {
    const space = line.indexOf(' ')
    if (space > 0) inodes.set(line.slice(space + 1), BigInt(line.slice(0, space)))
  }
  return inodes
}
