import type { BaseTree } from './base-tree.js'
import type { Entry } from './change.js'
import type { Scan } from './scan.js'
import { readIndex, type Tracked } from './task-index.js'
import type { WorkTree } from './work-tree.js'

/**
 * Files of the base that the task told git to forget (`git rm --cached`) and that its rules ignore: they lie there as
 * before, and `git add -A` takes them no more. An index that is gone, or makes no sense, says nothing about any file.
 *
 * @param pristine the work tree as it was checked out, with its index
 */
export function forgetUntracked(
  scan: Scan,
  base: BaseTree,
  { tree, pristine, index }: { tree: WorkTree; pristine: WorkTree; index: () => Tracked | null },
): void {
  // A task that used no git has the index of the snapshot, which need not be read.
  if (isSame(tree, pristine)) return
  const [now, before] = [index(), readIndex(pristine)]
  if (now === null || before === null) return
  const forgotten = new Map<string, Entry>()
  for (const path of before.files) {
    if (now.files.has(path) || !tree.isReached(path) || tree.look(path)?.isDirectory()) continue
    const entry = base.find(path)
    if (entry && scan.ignores(path)) forgotten.set(path, entry)
  }
  if (forgotten.size > 0) scan.forget(forgotten)
}

function isSame(tree: WorkTree, pristine: WorkTree): boolean {
  const [now, before] = [tree, pristine].map(one =>
    one.isReached('.git/index') ? one.look('.git/index') : null,
  )
  return !now || !before || (now.size === before.size && now.mtimeNs === before.mtimeNs)
}
