import { ObjectError } from './objects.js'

/**
 * An entry of a tree. Names are bytes, held as latin1 strings: one character per byte, so that any name goes through
 * unharmed. `Buffer.from(name, 'latin1')` gives them to the file system.
 */
export interface TreeEntry {
  readonly mode: Mode
  readonly name: string
  readonly oid: string
}

export const MODE = {
  file: '100644',
  executable: '100755',
  symlink: '120000',
  tree: '40000',
  gitlink: '160000',
} as const
export type Mode = (typeof MODE)[keyof typeof MODE]

/** @throws ObjectError when the bytes are no tree */
export function parseTree(data: Buffer): TreeEntry[] {
  const entries: TreeEntry[] = []
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(32, at)
    const end = data.indexOf(0, space)
    if (space < 0 || end < 0 || end + 21 > data.length) throw new ObjectError('a tree is broken')
    entries.push({
      mode: toMode(data.toString('latin1', at, space)),
      name: data.toString('latin1', space + 1, end),
      oid: data.toString('hex', end + 1, end + 21),
    })
    at = end + 21
  }
  return entries
}

/** Old repositories hold modes such as 100664; git reads them as one of the five. */
function toMode(text: string): Mode {
  const mode = Number.parseInt(text, 8)
  const type = mode & 0o170000
  if (type === 0o040000) return MODE.tree
  if (type === 0o120000) return MODE.symlink
  if (type === 0o160000) return MODE.gitlink
  if (type === 0o100000) return mode & 0o100 ? MODE.executable : MODE.file
  throw new ObjectError(`a tree holds an entry of mode ${text}`)
}

export function serializeTree(entries: readonly TreeEntry[]): Buffer {
  const sorted = entries.toSorted((a, b) => compareNames(sortKey(a), sortKey(b)))
  return Buffer.concat(
    sorted.flatMap(({ mode, name, oid }) => [
      Buffer.from(`${mode} ${name}\0`, 'latin1'),
      Buffer.from(oid, 'hex'),
    ]),
  )
}

/** git sorts a folder as if its name ended in a slash. */
const sortKey = ({ mode, name }: TreeEntry) => (mode === MODE.tree ? `${name}/` : name)

/** By bytes. */
export function compareNames(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

/**
 * Why an entry must not be written to a disk, or null. Refuses what git itself refuses, on every platform: `.git` in
 * any case or disguise (HFS+ ignores some characters, NTFS has short names, trailing dots and streams).
 */
export function unsafeEntry({ name, mode }: TreeEntry): string | null {
  if (name === '' || name === '.' || name === '..') return 'is no name'
  if (name.includes('/')) return 'holds a slash'
  if (name.length > 255) return 'is longer than 255 bytes'
  if (name.split('\\').some(isDotGit)) return 'stands for .git'
  if (mode === MODE.symlink && /^\.gitmodules$/i.test(name)) return 'is a symlink that git would read'
  return null
}

/** Bytes of the characters that HFS+ ignores in names, in UTF-8 read as latin1. */
const HFS_IGNORED = /\u00e2\u0080[\u008c-\u008f\u00aa-\u00ae]|\u00e2\u0081[\u00aa-\u00af]|\u00ef\u00bb\u00bf/g

function isDotGit(part: string): boolean {
  const plain = part
    .replace(HFS_IGNORED, '')
    .replace(/:.*$/s, '')
    .replace(/[. ]+$/, '')
    .toLowerCase()
  return plain === '.git' || plain === 'git~1'
}

/** Whether a name of a work tree is the repository's own folder, to git. */
export function isGitFolder(name: string): boolean {
  return isDotGit(name)
}

/** The tree and parents of a commit. @throws ObjectError when the bytes are no commit */
export function parseCommit(data: Buffer): {
  tree: string
  parents: string[]
  author: string
  message: string
} {
  const text = data.toString('utf8')
  const end = text.indexOf('\n\n')
  const head = (end < 0 ? text : text.slice(0, end)).split('\n')
  const tree = /^tree ([0-9a-f]{40})$/.exec(head[0] ?? '')?.[1]
  if (tree === undefined) throw new ObjectError('a commit is broken')
  const parents = head.flatMap(line => /^parent ([0-9a-f]{40})$/.exec(line)?.[1] ?? [])
  const author = head.find(line => line.startsWith('author '))?.slice('author '.length) ?? ''
  return { tree, parents, author, message: end < 0 ? '' : text.slice(end + 2) }
}

/** The object that an annotated tag names. */
export function parseTag(data: Buffer): { object: string; type: string } {
  const match = /^object ([0-9a-f]{40})\ntype (\w+)\n/.exec(data.toString('latin1', 0, 128))
  if (!match) throw new ObjectError('a tag is broken')
  return { object: match[1] ?? '', type: match[2] ?? '' }
}
