import { copyFileSync, linkSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Wanted } from './resolve.js'

/** What `git init` makes, as far as git needs it; without hooks. */
export function makeGitFolder(dir: string): void {
  for (const folder of ['objects/info', 'objects/pack', 'refs/heads', 'refs/tags', 'info']) {
    mkdirSync(join(dir, '.git', folder), { recursive: true, mode: 0o755 })
  }
  writeFileSync(join(dir, '.git/HEAD'), 'ref: refs/heads/main\n')
  writeFileSync(join(dir, '.git/info/exclude'), '')
  writeFileSync(join(dir, '.git/config'), renderConfig(null))
}

/**
 * The repository's config as git would write it, plus what makes the index stat data of a snapshot hold in every
 * container: only size and whole seconds count.
 */
export function renderConfig(url: string | null, branch: string | null = null): string {
  const core =
    '[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n'
  const stat = '\tcheckStat = minimal\n\ttrustctime = false\n'
  if (url === null) return core + stat
  const remote = `[remote "origin"]\n\turl = ${quoteConfig(url)}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n`
  const tracking =
    branch &&
    `[branch ${quoteConfig(branch)}]\n\tremote = origin\n\tmerge = ${quoteConfig(`refs/heads/${branch}`)}\n`
  return core + stat + remote + (tracking ?? '')
}

/** A value, or the name of a subsection, in a git config. */
export function quoteConfig(value: string): string {
  return `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`
}

/**
 * Puts packs into a repository without copying them: they are read-only, and whoever changes a file of its own layer
 * gets a copy. Where the disk has no links they are copied.
 *
 * @param packs names without endings
 * @param from the folder that holds them
 */
export function linkPacks(dir: string, packs: readonly string[], from: string): void {
  for (const name of packs.flatMap(pack => [`${pack}.pack`, `${pack}.idx`])) {
    const target = join(dir, '.git/objects/pack', name)
    try {
      linkSync(join(from, name), target)
    } catch (error) {
      if (!['EXDEV', 'EMLINK', 'EPERM', 'ENOTSUP'].includes(`${(error as NodeJS.ErrnoException).code}`))
        throw error
      copyFileSync(join(from, name), target)
    }
  }
}

/** Where the history ends. git warns of an empty list, and of a last line without its end. */
export function writeShallow(dir: string, shallow: readonly string[]): void {
  if (shallow.length > 0) writeFileSync(join(dir, '.git/shallow'), shallow.map(oid => `${oid}\n`).join(''))
}

/**
 * Names in the repository what `git clone` would have: the branch and its remote twin, or the tag, and HEAD.
 *
 * @returns the branch's name, null when HEAD is detached
 */
export function writeRefs(dir: string, { commit, ref, want }: Wanted): string | null {
  const at = join(dir, '.git')
  const branch = ref?.startsWith('refs/heads/') ? ref.slice('refs/heads/'.length) : null
  const refs = new Map<string, string>()
  if (branch !== null) {
    refs.set(`refs/heads/${branch}`, commit)
    refs.set(`refs/remotes/origin/${branch}`, commit)
  } else if (ref?.startsWith('refs/tags/')) refs.set(ref, want)
  // In packed-refs, so that a ref's name is never the path of a file.
  const lines = [...refs].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([name, oid]) => `${oid} ${name}\n`)
  if (lines.length > 0) writeFileSync(join(at, 'packed-refs'), `# pack-refs with: sorted \n${lines.join('')}`)
  writeFileSync(join(at, 'HEAD'), branch === null ? `${commit}\n` : `ref: refs/heads/${branch}\n`)
  return branch
}
