import type { WorkTree } from './work-tree.js'

const MAX_INDEX_BYTES = 512 * 2 ** 20
/** Tracks nothing. */
export const NO_INDEX: Tracked = { files: new Set(), folders: new Set(), oidOf: () => null }

export interface Tracked {
  readonly files: ReadonlySet<string>
  /** Every folder above one of the files. */
  readonly folders: ReadonlySet<string>
  /** The id of the object that the index has at a path; null for none. */
  readonly oidOf: (path: string) => string | null
}

/**
 * The paths in the task's own index: what it added by force counts as its change though it is ignored. Read as what
 * it is, a file that may hold anything: an index that makes no sense tracks nothing.
 */
export function readTracked(tree: WorkTree): Tracked {
  return readIndex(tree) ?? NO_INDEX
}

/** The same; null for an index that is not there or makes no sense, which is something else than an empty one. */
export function readIndex(tree: WorkTree): Tracked | null {
  if (!tree.isReached('.git/index')) return null
  try {
    const data = tree.read('.git/index', MAX_INDEX_BYTES)
    const files = new Set<string>()
    for (const { path } of parseEntries(data)) files.add(path)
    return { files, folders: foldersOf(files), oidOf: lookup(data) }
  } catch {
    return null
  }
}

/** Ids are read when the first is asked for, which is seldom: they cost as much as the paths. */
function lookup(data: Buffer): Tracked['oidOf'] {
  let oids: Map<string, string> | null = null
  return path => {
    oids ??= new Map(
      [...parseEntries(data)].map(({ path: at, start }) => [
        at,
        data.toString('hex', start + 40, start + 60),
      ]),
    )
    return oids.get(path) ?? null
  }
}

/** The paths in an index of version 2, 3 or 4, and where their entries start. @throws RangeError where it is cut off */
function* parseEntries(data: Buffer): Generator<{ path: string; start: number }> {
  const version = data.readUInt32BE(4)
  if (data.toString('latin1', 0, 4) !== 'DIRC' || version < 2 || version > 4)
    throw new RangeError('no index that is known')
  let at = 12
  let last = ''
  for (let count = data.readUInt32BE(8); count > 0; count -= 1) {
    const start = at
    const extended = version > 2 && (data.readUInt16BE(at + 60) & 0x4000) !== 0
    at += extended ? 64 : 62
    if (version === 4) {
      const [drop, next] = readOffset(data, at)
      at = next
      last = last.slice(0, last.length - drop)
    } else last = ''
    const end = data.indexOf(0, at)
    if (end < 0) throw new RangeError('a name without end')
    last += data.toString('latin1', at, end)
    yield { path: last, start }
    at = version === 4 ? end + 1 : start + Math.floor((end - start + 8) / 8) * 8
  }
}

/** A number as in a pack's offsets, and where it ends. */
function readOffset(data: Buffer, start: number): [number, number] {
  let at = start
  let byte = data.readUInt8(at++)
  let value = byte & 0x7f
  while (byte & 0x80) {
    byte = data.readUInt8(at++)
    value = (value + 1) * 128 + (byte & 0x7f)
  }
  return [value, at]
}

function foldersOf(files: ReadonlySet<string>): Set<string> {
  const folders = new Set<string>()
  for (const path of files) {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const folder = path.slice(0, end)
      if (folders.has(folder)) break
      folders.add(folder)
    }
  }
  return folders
}
