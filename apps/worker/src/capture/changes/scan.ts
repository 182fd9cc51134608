import type { BigIntStats } from 'node:fs'
import type { GitSide } from '../../workspace/git/conversion.js'
import { hashObject } from '../../workspace/git/objects.js'
import { isGitFolder, MODE, type Mode, type TreeEntry } from '../../workspace/git/tree.js'
import type { BaseTree } from './base-tree.js'
import { type Change, type Entry, shown } from './change.js'
import { GitSides } from './git-sides.js'
import { IgnoreRules } from './ignore-rules.js'
import type { Tracked } from './task-index.js'
import type { WorkTree } from './work-tree.js'

/** A file larger than this is left out, with a note. In bytes. */
const MAX_FILE_BYTES = 256 * 2 ** 20
const MAX_RULES_BYTES = 2 ** 20
const MAX_NOTES = 100

export interface ScanOptions {
  readonly base: BaseTree
  /** The work tree as the task saw it. */
  readonly tree: WorkTree
  /** The work tree as it was checked out. */
  readonly pristine: WorkTree
  /** Paths that the platform put there; whatever they are now, they are no changes. */
  readonly placed: ReadonlySet<string>
  /** Whether a file that is tracked can't have changed, by its stat alone. */
  readonly isUntouched: (folder: string, stat: BigIntStats) => boolean
  /** What the task told git to track; asked for only when something is ignored, or line ends depend on it. */
  readonly tracked: () => Tracked
}

/**
 * Compares folders of a work tree with the base tree and collects what differs, as `git add -A` would see it. Which
 * folders to look into is its callers' knowledge.
 */
export class Scan {
  readonly options: ScanOptions
  readonly changes: Change[] = []
  readonly #notes: string[] = []
  readonly #rules = new IgnoreRules()
  readonly #entered = new Set<string>()
  readonly #sides: GitSides

  constructor(options: ScanOptions) {
    this.options = options
    this.#sides = new GitSides(options.tree, options.base, options.tracked, text => this.note(text))
    if (options.tree.isReached('.git/info/exclude')) this.#addRules('', '.git/info/exclude')
  }

  get notes(): readonly string[] {
    return [...this.#notes, ...this.#sides.notes]
  }

  note(text: string): void {
    if (this.#notes.length < MAX_NOTES) this.#notes.push(text)
    else if (this.#notes.length === MAX_NOTES) this.#notes.push('more notes were left out')
  }

  /** Reads the rules of a folder; call it for every folder on the way down. */
  enter(folder: string): void {
    if (this.#entered.has(folder)) return
    this.#entered.add(folder)
    const prefix = prefixOf(folder)
    this.#addRules(prefix, `${prefix}.gitignore`)
    this.#sides.enter(folder)
  }

  /** Compares a whole folder with a tree of the base; null when the base has none there. */
  compareFolder(folder: string, base: string | null): void {
    this.enter(folder)
    const before = this.options.base.folder(base)
    const prefix = prefixOf(folder)
    const names = this.options.tree.list(folder)
    for (const name of names) this.compareEntry(folder, name, before.get(name))
    const there = new Set(names)
    for (const entry of before.values()) if (!there.has(entry.name)) this.gone(prefix + entry.name, entry)
  }

  /** Compares one name of a folder, whatever it is on either side. */
  compareEntry(folder: string, name: string, before: TreeEntry | undefined): void {
    const path = prefixOf(folder) + name
    if (isGitFolder(name)) return this.#noteGitFolder(folder, path)
    const stat = this.options.tree.look(path)
    if (!stat) {
      if (before) this.gone(path, before)
    } else if (!stat.isDirectory()) this.#compareFile(folder, path, stat, before)
    else if (before?.mode === MODE.gitlink) return
    else {
      if (before && before.mode !== MODE.tree) this.gone(path, before)
      this.#descend(path, before?.mode === MODE.tree ? before.oid : null)
    }
  }

  /** Something of the base that isn't there any more: a file, or all below a folder. */
  gone(path: string, before: TreeEntry): void {
    if (before.mode !== MODE.tree) return this.#changed(path, { mode: before.mode, oid: before.oid }, null)
    for (const file of this.options.base.files(before.oid, `${path}/`))
      this.#changed(file.path, file.entry, null)
  }

  /** Takes files of the base for gone though they are there, and whatever was found of them before. */
  forget(files: ReadonlyMap<string, Entry>): void {
    const others = this.changes.splice(0).filter(change => !files.has(change.path))
    for (const change of others) this.changes.push(change)
    for (const [path, entry] of files) this.#changed(path, entry, null)
  }

  /** Whether the rules ignore a file that is reached by folders alone. */
  ignores(path: string): boolean {
    const parts = path.split('/')
    for (const index of parts.keys()) this.enter(parts.slice(0, index).join('/'))
    return this.#rules.ignores(path)
  }

  #descend(path: string, base: string | null): void {
    if (base !== null) return this.compareFolder(path, base)
    if (this.#rules.ignores(`${path}/`) && !this.options.tracked().folders.has(path)) return
    if (this.options.tree.look(`${path}/.git`))
      return this.note(`repo/${shown(path)}: a repository of its own, left out`)
    this.compareFolder(path, null)
  }

  #noteGitFolder(folder: string, path: string): void {
    if (path !== '.git')
      this.note(
        `repo/${shown(path)}: git takes no such name${folder === '' ? '' : ', or it is a repository of its own'}; left out`,
      )
  }

  #compareFile(folder: string, path: string, stat: BigIntStats, before: TreeEntry | undefined): void {
    const known = before && before.mode !== MODE.tree ? { mode: before.mode, oid: before.oid } : null
    if (before?.mode === MODE.tree) this.gone(path, before)
    if (known && this.options.isUntouched(folder, stat)) return
    if (!known && this.#rules.ignores(path) && !this.options.tracked().files.has(path)) return
    if (!before && this.options.base.isAside(path))
      return this.note(`repo/${shown(path)}: was there before and ignored, so its change is left out`)
    const mode = modeOf(stat)
    if (mode === null) {
      this.note(`repo/${shown(path)}: ${kindOf(stat)}, left out`)
      if (known) this.#changed(path, known, null)
      return
    }
    if (stat.size > BigInt(MAX_FILE_BYTES)) {
      return this.note(`repo/${shown(path)}: larger than ${MAX_FILE_BYTES} bytes, its change is left out`)
    }
    this.#compareContent(path, stat, mode, known)
  }

  #compareContent(path: string, stat: BigIntStats, mode: Mode, known: Entry | null): void {
    const raw = this.#raw(path, mode)
    const side = this.#sideOf(path, mode, raw)
    const oid = hashObject('blob', side.data)
    if (known?.mode === mode && (known.oid === oid || this.#isAsCheckedOut(path, stat, raw))) return
    this.#changed(path, known, { mode, oid })
    if (known?.oid !== oid) this.#sides.changed(path, side)
  }

  /** The bytes of a path as git would store them. */
  content(path: string, mode: Mode): Buffer {
    return this.#sideOf(path, mode, this.#raw(path, mode)).data
  }

  #raw(path: string, mode: Mode): Buffer {
    return mode === MODE.symlink ? this.options.tree.link(path) : this.options.tree.read(path, MAX_FILE_BYTES)
  }

  #sideOf(path: string, mode: Mode, raw: Buffer): GitSide {
    return mode === MODE.symlink ? { data: raw, notApplied: [] } : this.#sides.of(path, raw)
  }

  /**
   * Whether git would not even look at a file. What was committed with CRLF against its attributes, and what new
   * attributes speak of, is converted when it is written the next time, not before.
   */
  #isAsCheckedOut(path: string, stat: BigIntStats, raw: Buffer): boolean {
    const { pristine } = this.options
    const before = pristine.look(path)
    if (!before?.isFile() || before.size !== stat.size || before.mtimeNs !== stat.mtimeNs) return false
    return pristine.read(path, MAX_FILE_BYTES).equals(raw)
  }

  #changed(path: string, before: Entry | null, after: Entry | null): void {
    if (!this.options.placed.has(path)) this.changes.push({ path, before, after })
  }

  #addRules(prefix: string, path: string): void {
    const text = this.#readSmall(path)
    if (text !== null) this.#rules.add(prefix, text)
  }

  /** A file that git itself would read from the work tree: regular, and of a sane size. */
  #readSmall(path: string): string | null {
    const stat = this.options.tree.look(path)
    if (!stat?.isFile() || stat.size > BigInt(MAX_RULES_BYTES)) return null
    return this.options.tree.read(path, MAX_RULES_BYTES).toString('latin1')
  }
}

export const prefixOf = (folder: string) => (folder === '' ? '' : `${folder}/`)

function modeOf(stat: BigIntStats): Mode | null {
  if (stat.isSymbolicLink()) return MODE.symlink
  if (!stat.isFile()) return null
  return stat.mode & 0o100n ? MODE.executable : MODE.file
}

function kindOf(stat: BigIntStats): string {
  if (stat.isFIFO()) return 'a FIFO'
  if (stat.isSocket()) return 'a socket'
  return 'a device'
}
