import type { BigIntStats } from 'node:fs'
import { MODE, type TreeEntry } from '../../workspace/git/tree.js'
import { prefixOf, type Scan } from './scan.js'
import type { WorkTree } from './work-tree.js'

/** The three views of an overlay. */
export interface OverlayTrees {
  /** What the task wrote. */
  readonly upper: WorkTree
  /** The snapshot. */
  readonly lower: WorkTree
  /** Both, as the task saw them. */
  readonly merged: WorkTree
}

/**
 * Looks only where the task wrote: the upper layer tells where that is, and the merged view what is there now. So the
 * cost is that of the change.
 */
export function scanOverlay(scan: Scan, trees: OverlayTrees): void {
  scanFolder(scan, trees, '', scan.options.base.root)
}

/** A folder that both the upper layer and the base have. */
function scanFolder(scan: Scan, trees: OverlayTrees, folder: string, base: string): void {
  const before = scan.options.base.folder(base)
  const written = trees.upper.list(folder)
  if (folder !== '' && !isPlainMerge(trees, folder, new Set(written), before))
    return scan.compareFolder(folder, base)
  scan.enter(folder)
  for (const name of written) {
    const path = prefixOf(folder) + name
    const stat = trees.upper.look(path)
    const entry = before.get(name)
    if (stat && isWhiteout(stat)) {
      if (entry) scan.gone(path, entry)
    } else if (stat?.isDirectory() && entry?.mode === MODE.tree) scanFolder(scan, trees, path, entry.oid)
    else scan.compareEntry(folder, name, entry)
  }
}

/** How an overlay hides a name of the layer below. */
function isWhiteout(stat: BigIntStats): boolean {
  return stat.isCharacterDevice() && stat.rdev === 0n
}

/**
 * Whether what the upper folder doesn't hold is what the snapshot has at the same path. It isn't for a folder that was
 * made anew (opaque) or moved here (redirected). The overlay's own marks are not read for that: a name of the base
 * that the upper folder doesn't hold must be the very same inode in the merged view and in the snapshot, because all
 * that shines through comes from one folder. Without such a name there is nothing to save by knowing.
 */
function isPlainMerge(
  { upper, lower, merged }: OverlayTrees,
  folder: string,
  written: ReadonlySet<string>,
  before: ReadonlyMap<string, TreeEntry>,
): boolean {
  const [below, shown] = [lower.look(folder), upper.look(folder)]
  // Only within one file system does an overlay show the inodes of the layers.
  if (below === null || below.dev !== shown?.dev) return false
  const name = hidden(written, before)
  if (name === null) return false
  const path = prefixOf(folder) + name
  const [snapshot, view] = [lower.look(path), merged.look(path)]
  return snapshot !== null && view !== null && snapshot.ino === view.ino
}

/** A name of the base that the upper folder doesn't hold; a file's, if there is one. */
function hidden(written: ReadonlySet<string>, before: ReadonlyMap<string, TreeEntry>): string | null {
  let found: string | null = null
  for (const [name, { mode }] of before) {
    if (written.has(name)) continue
    if (mode !== MODE.tree && mode !== MODE.gitlink) return name
    found ??= name
  }
  return found
}
