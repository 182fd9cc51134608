import { createHash } from 'node:crypto'
import { compareNames, type Mode } from './tree.js'

/** One file of git's index. */
export interface IndexEntry {
  /** Bytes as latin1. */
  readonly path: string
  readonly mode: Mode
  readonly oid: string
  readonly size: number
  /** Of the last change, in seconds. */
  readonly time: number
}

/**
 * git's index, version 2, with the TREE extension, so that neither the first `git status` nor the first `git commit`
 * has to read the whole repository. Device, inode, owner and change time are 0: with core.checkStat=minimal git does
 * not compare them, and in a container they would differ.
 *
 * @param trees for each folder ('' is the root) the id of its tree
 */
export function writeIndex(entries: readonly IndexEntry[], trees: ReadonlyMap<string, string>): Buffer {
  const sorted = entries.toSorted((a, b) => compareNames(a.path, b.path))
  const head = Buffer.alloc(12)
  head.write('DIRC')
  head.writeUInt32BE(2, 4)
  head.writeUInt32BE(sorted.length, 8)
  const cached = cacheTree(sorted, trees)
  const extension = Buffer.alloc(8)
  extension.write('TREE')
  extension.writeUInt32BE(cached.length, 4)
  const body = Buffer.concat([head, ...sorted.map(writeEntry), extension, cached])
  return Buffer.concat([body, createHash('sha1').update(body).digest()])
}

function writeEntry({ path, mode, oid, size, time }: IndexEntry): Buffer {
  const name = Buffer.from(path, 'latin1')
  // Padded with 1 to 8 NULs to a multiple of 8.
  const entry = Buffer.alloc(Math.floor((62 + name.length + 8) / 8) * 8)
  entry.writeUInt32BE(time, 0)
  entry.writeUInt32BE(time, 8)
  entry.writeUInt32BE(Number.parseInt(mode, 8), 24)
  entry.writeUInt32BE(size % 2 ** 32, 36)
  entry.write(oid, 40, 'hex')
  entry.writeUInt16BE(Math.min(name.length, 0xfff), 60)
  name.copy(entry, 62)
  return entry
}

interface Folder {
  count: number
  readonly children: Map<string, string>
}

/** For every folder: its name, how many entries it holds in all, how many folders directly, and its tree. */
function cacheTree(entries: readonly IndexEntry[], trees: ReadonlyMap<string, string>): Buffer {
  const folders = new Map<string, Folder>()
  for (const path of trees.keys()) folders.set(path, { count: 0, children: new Map() })
  for (const path of trees.keys()) {
    if (path !== '') folders.get(parentOf(path))?.children.set(path.slice(path.lastIndexOf('/') + 1), path)
  }
  for (const { path } of entries) {
    for (let at = parentOf(path); ; at = parentOf(at)) {
      const folder = folders.get(at)
      if (folder) folder.count += 1
      if (at === '') break
    }
  }
  const parts: Buffer[] = []
  const pending: [string, string][] = [['', '']]
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [name, path] = next
    const { count, children } = folders.get(path) ?? { count: 0, children: new Map<string, string>() }
    parts.push(
      Buffer.from(`${name}\0${count} ${children.size}\n`, 'latin1'),
      Buffer.from(trees.get(path) ?? '', 'hex'),
    )
    const order = [...children].toSorted(([a], [b]) => a.length - b.length || compareNames(a, b))
    pending.push(...order.toReversed())
  }
  return Buffer.concat(parts)
}

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')))
