import { type RawEntry, type RawObject, rawBlob, rawCommit, rawObject, rawTree } from './objects.js'
import { packEntry, packOf } from './pack.js'
import { refsAt } from './protocol.js'
import type { Script } from './script.js'

/** The content of every file in these trees. */
const EVIL = 'evil\n'

const evil = rawBlob(EVIL)

/** A repository whose tree is the first of these objects; a blob with EVIL is there too. */
const withTree = (root: RawObject, ...others: readonly RawObject[]): Script => {
  const commit = rawCommit(root.oid)
  return {
    offer: { refs: refsAt(commit.oid), pack: packOf([commit, root, ...others, evil].map(packEntry)) },
  }
}

const file = (name: string): RawEntry => ({ mode: '100644', name, oid: evil.oid })
const folder = (name: string, tree: RawObject): RawEntry => ({ mode: '40000', name, oid: tree.oid })

const withFiles = (...names: readonly string[]): Script => withTree(rawTree(names.map(file)))

const withFolder = (name: string): Script => {
  const below = rawTree([file('config')])
  return withTree(rawTree([folder(name, below)]), below)
}

const withLink = (name: string, target: string): Script => {
  const link = rawBlob(target)
  return withTree(rawTree([{ mode: '120000', name, oid: link.oid }]), link)
}

/** UTF-8 as the latin1 that names are given in. */
const bytes = (text: string) => Buffer.from(text).toString('latin1')

/** A folder in a folder, and so on. */
function deep(levels: number): Script {
  const trees = [rawTree([file('f')])]
  for (let level = 0; level < levels; level += 1)
    trees.push(rawTree([folder('d', trees.at(-1) as RawObject)]))
  return withTree(...(trees.toReversed() as [RawObject, ...RawObject[]]))
}

/** Each level holds the one below twice: 2^levels files of a few hundred bytes. */
function doubling(levels: number): Script {
  const trees = [rawTree([file('f')])]
  for (let level = 0; level < levels; level += 1) {
    const below = trees.at(-1) as RawObject
    trees.push(rawTree([folder('a', below), folder('b', below)]))
  }
  return withTree(...(trees.toReversed() as [RawObject, ...RawObject[]]))
}

function linkAndPathThroughIt(): Script {
  const link = rawBlob('/var/tmp')
  const below = rawTree([file('pwned')])
  const root = rawTree([{ mode: '120000', name: 'a', oid: link.oid }, folder('a', below)])
  return withTree(root, link, below)
}

/** What real git refuses to make, or makes and would not check out. */
export const TREE_SCRIPTS = {
  'name-dots': () => withFiles('..'),
  'name-dot': () => withFiles('.'),
  'name-empty': () => withFiles(''),
  'name-git': () => withFolder('.git'),
  'name-git-in-capitals': () => withFolder('.GIT'),
  'name-git-short': () => withFolder('git~1'),
  'name-git-and-blank': () => withFolder('.git '),
  'name-git-and-dot': () => withFolder('.git.'),
  'name-git-stream': () => withFolder('.git::$INDEX_ALLOCATION'),
  'name-git-ignorable': () => withFolder(bytes('.g\u200cit')),
  'name-git-ignorable-end': () => withFolder(bytes('.git\ufeff')),
  'name-git-below-backslash': () => withFiles('a\\.git\\config'),
  'name-slash': () => withFiles('x/../../y'),
  'name-absolute': () => withFiles('/etc/cron.d/evil'),
  'name-nul': () => withFiles('a\0b'),
  'name-of-256-bytes': () => withFiles('x'.repeat(256)),
  'name-of-100000-bytes': () => withFiles('x'.repeat(100_000)),
  'names-odd': () =>
    withFiles('a\nb', 'a\\b', '\x1b[31m', bytes('\u202eexe.txt'), '\xff\xfe', 'x'.repeat(255)),
  'names-twice': () => withFiles('a', 'a'),
  'file-and-folder': () => {
    const below = rawTree([file('f')])
    return withTree(rawTree([file('a'), folder('a', below)]), below)
  },
  'link-and-path-through-it': linkAndPathThroughIt,
  'link-absolute': () => withLink('passwd', '/etc/passwd'),
  'link-escaping': () => withLink('up', '../../../../../../etc/passwd'),
  'link-empty': () => withLink('link', ''),
  'link-with-nul': () => withLink('link', 'a\0b'),
  'link-of-1-mib': () => withLink('link', 'x/'.repeat(2 ** 19)),
  'gitmodules-link': () => withLink('.gitmodules', '/etc/passwd'),
  'mode-of-a-device': () => withTree(rawTree([{ mode: '60000', name: 'sda', oid: evil.oid }])),
  'mode-setuid': () => withTree(rawTree([{ mode: '104755', name: 'suid', oid: evil.oid }])),
  'mode-of-no-number': () => withTree(rawTree([{ mode: 'evil', name: 'a', oid: evil.oid }])),
  'tree-of-garbage': () => withTree(rawObject('tree', 'no tree at all')),
  'tree-cut-off': () => withTree(rawObject('tree', rawTree([file('a')]).data.subarray(0, -5))),
  'tree-of-10000-levels': () => deep(10_000),
  'tree-that-doubles': () => doubling(30),
  submodule: () => withTree(rawTree([file('a'), { mode: '160000', name: 'sub', oid: '2'.repeat(40) }])),
} satisfies Record<string, () => Script>
