import { ATTRIBUTES_FILE, Attributes, MAX_ATTRIBUTES_BYTES } from '../../workspace/git/attributes.js'
import { type GitSide, toGit } from '../../workspace/git/conversion.js'
import { Effort } from '../../workspace/git/glob.js'
import type { BaseTree } from './base-tree.js'
import { shown } from './change.js'
import type { Tracked } from './task-index.js'
import type { WorkTree } from './work-tree.js'

const INFO = '.git/info/attributes'
/** Some ten seconds of matching patterns, well within the deadline, for a task that writes hostile ones. */
const MAX_EFFORT = 1e10
const MAX_NAMED_PATHS = 5
const MAX_NOTES = 20

/** What git has stored already. */
type Stored = Pick<BaseTree, 'find' | 'blob'>

/**
 * What git would store of a work tree's files: line ends, `$Id$` and UTF-16 by the attributes that lie in the work tree
 * now, as `git add` takes them. They are the task's: no link is followed and none of them runs anything.
 */
export class GitSides {
  readonly #tree: WorkTree
  readonly #base: Stored
  readonly #tracked: () => Tracked
  readonly #folders = new Map<string, Attributes>()
  /** What is not applied → the paths where that changes something. */
  readonly #notApplied = new Map<string, string[]>()
  readonly #note: (text: string) => void

  /**
   * @param tracked the task's index; asked for only where line ends depend on it
   * @param note takes what a person should know
   */
  constructor(tree: WorkTree, base: Stored, tracked: () => Tracked, note: (text: string) => void) {
    this.#tree = tree
    this.#base = base
    this.#tracked = tracked
    this.#note = note
  }

  /** Reads the attributes of a folder; its parents must have been entered. */
  enter(folder: string): void {
    const prefix = folder === '' ? '' : `${folder}/`
    const file = this.#read(prefix + ATTRIBUTES_FILE)
    if (folder === '') {
      const info = this.#tree.isReached(INFO) ? this.#read(INFO) : null
      this.#folders.set('', Attributes.root(file, info, 'work tree', new Effort(MAX_EFFORT)))
    } else if (file) this.#folders.set(folder, this.#attributes(folder).below(prefix, file))
  }

  /** Whether the bytes of a regular file are stored as they lie, whatever they are. */
  isPlain(path: string): boolean {
    const { text, ident, encoding } = this.#attributes(parentOf(path)).conversionOf(path)
    return text === 'no' && !ident && encoding === null
  }

  /** @param data the bytes of a regular file as they lie @throws EffortError when patterns cost too much */
  of(path: string, data: Buffer): GitSide {
    const conversion = this.#attributes(parentOf(path)).conversionOf(path)
    return toGit(data, conversion, () => this.#indexed(path))
  }

  /** Notes for a file that changed what should have been done to it as well. */
  changed(path: string, { notApplied }: GitSide): void {
    for (const what of notApplied) {
      const paths = this.#notApplied.get(what)
      if (paths) paths.push(path)
      else this.#notApplied.set(what, [path])
    }
  }

  /** One for each filter or encoding; of a hostile number of them, the first. */
  get notes(): string[] {
    return [...this.#notApplied].slice(0, MAX_NOTES).map(([what, paths]) => {
      const named = paths.slice(0, MAX_NAMED_PATHS).map(path => `repo/${shown(path)}`)
      const more = paths.length > named.length ? ` and ${paths.length - named.length} more` : ''
      return `${named.join(', ')}${more}: ${shown(what).slice(0, 100)} of .gitattributes is not applied, bytes are taken as they lie`
    })
  }

  #attributes(folder: string): Attributes {
    for (let at = folder; ; at = parentOf(at)) {
      const known = this.#folders.get(at)
      if (known) return known
      if (at === '') throw new Error('the root was not entered')
    }
  }

  #read(path: string): Buffer | null {
    const stat = this.#tree.look(path)
    if (!stat?.isFile()) return null
    if (stat.size <= BigInt(MAX_ATTRIBUTES_BYTES)) return this.#tree.read(path, MAX_ATTRIBUTES_BYTES)
    this.#note(`repo/${shown(path)}: larger than ${MAX_ATTRIBUTES_BYTES} bytes, not applied`)
    return null
  }

  /**
   * The blob at a path of the task's index, which knows where a file was moved to. What the task itself stored is not
   * looked at: there, and where no index can be read, it is the base's.
   */
  #indexed(path: string): Buffer | null {
    const base = this.#base.find(path)?.oid ?? null
    const { files, oidOf } = this.#tracked()
    const tracked = files.size === 0 ? base : oidOf(path)
    if (tracked === null) return null
    return this.#base.blob(tracked) ?? (base === null ? null : this.#base.blob(base))
  }
}

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf('/')))
