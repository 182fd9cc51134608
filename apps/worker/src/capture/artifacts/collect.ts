import { createHash } from 'node:crypto'
import {
  type BigIntStats,
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Skipped } from '@agirunner/contracts'
import { lookup } from 'mrmime'
import { type ChangesJob, withView, workTreeOf } from '../changes/job.js'
import { type ToldSecret, toldRedactor } from '../changes/told-secrets.js'
import { WorkTree } from '../changes/work-tree.js'
import { isBelow, Selection } from './selection.js'

export interface ArtifactsJob extends Pick<ChangesJob, 'layers' | 'view' | 'slotRoot'> {
  /** Folders of the slot on this disk. */
  readonly output: string
  readonly context: string
  /** `capture.artifacts`. */
  readonly globs: readonly string[]
  /** Where the files go; made here. */
  readonly target: string
  /** What all of them together may have, in bytes. */
  readonly maxBytes: number
  /** A file that holds one of these is left out. */
  readonly secrets: readonly ToldSecret[]
}

/** A file that was kept, under a name of ours in the target folder. */
export interface CollectedFile {
  readonly path: string
  readonly name: string
  readonly sizeBytes: number
  readonly sha256: string
  readonly mediaType: string
}

export interface Collected {
  readonly files: readonly CollectedFile[]
  readonly skipped: readonly Skipped[]
}

/** What becomes `output` of the result, and so is no artifact. */
const RESULT = 'output/result.json'
const MAX_ENTRIES = 1_000_000
const MAX_DEPTH = 100
const MAX_FILES = 5000
/** So many are named; the rest is counted. */
const MAX_SKIPPED = 1000
const CHUNK_BYTES = 2 ** 20
const UNKNOWN_TYPE = 'application/octet-stream'

/**
 * Copies what a task left to be kept: what its globs name, and everything in its output. The task is dead; what it left
 * is data: no link is followed, nothing but plain files is opened, and all of it is counted.
 */
export async function runArtifacts(job: ArtifactsJob): Promise<Collected> {
  mkdirSync(job.target, { mode: 0o700 })
  return withView(job, () => new Collector(job).collect())
}

class Collector {
  readonly #job: ArtifactsJob
  readonly #selection: Selection
  readonly #roots: Readonly<Record<string, WorkTree>>
  readonly #redactor: ReturnType<typeof toldRedactor>
  readonly #files: CollectedFile[] = []
  readonly #skipped: Skipped[] = []
  /** One for all files: memory of this size for each costs more than a small file does. */
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES)
  #notNamed = 0
  #entries = 0
  #bytes = 0

  constructor(job: ArtifactsJob) {
    this.#job = job
    this.#selection = new Selection([...job.globs, 'output'])
    this.#redactor = toldRedactor(job.secrets)
    this.#roots = {
      repo: workTreeOf(job),
      output: new WorkTree(job.output),
      context: new WorkTree(job.context),
    }
  }

  collect(): Collected {
    for (const [root, tree] of Object.entries(this.#roots)) {
      for (const base of this.#selection.bases) {
        if (isBelow(root, base)) this.#visit(root, tree, '', 0)
        else if (isBelow(base, root)) {
          const path = Buffer.from(base.slice(root.length + 1)).toString('latin1')
          // On the way to it there may be a link of the task's.
          if (tree.isReached(path)) this.#visit(root, tree, path, path.split('/').length)
        }
      }
    }
    if (this.#notNamed > 0) this.#skipped.push({ path: '', reason: `${this.#notNamed} more` })
    return { files: this.#files, skipped: this.#skipped }
  }

  /** @param path below the root, its bytes as latin1 */
  #visit(root: string, tree: WorkTree, path: string, depth: number): void {
    const waiting = [{ path, depth }]
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      const at = next
      this.#entries += 1
      if (this.#entries > MAX_ENTRIES) return this.#skip(nameOf(root, at.path), 'too_many_entries')
      // A repository's own folder is no work of the task's; it is asked for by changes, commits and pushes.
      if (root === 'repo' && at.path === '.git') continue
      const stat = tree.look(at.path)
      if (!stat) continue
      if (!stat.isDirectory()) {
        this.#take(root, tree, at.path, stat)
        continue
      }
      if (at.depth >= MAX_DEPTH) {
        this.#skip(nameOf(root, at.path), 'too_deep')
        continue
      }
      const names = this.#namesIn(root, tree, at.path)
      for (const name of names.toSorted().toReversed())
        waiting.push({ path: at.path === '' ? name : `${at.path}/${name}`, depth: at.depth + 1 })
    }
  }

  #namesIn(root: string, tree: WorkTree, path: string): string[] {
    try {
      return tree.list(path)
    } catch {
      this.#skip(nameOf(root, path), 'unreadable')
      return []
    }
  }

  #take(root: string, tree: WorkTree, path: string, stat: BigIntStats): void {
    const name = nameOf(root, path)
    if (name === RESULT || !this.#selection.has(name)) return
    const why = this.#refusal(root, path, stat) ?? this.#keep(name, tree, path)
    if (why !== null) this.#skip(name, why)
  }

  /** What can be told without reading it. */
  #refusal(root: string, path: string, stat: BigIntStats): string | null {
    if (stat.isSymbolicLink()) return 'symlink'
    if (stat.isFIFO()) return 'fifo'
    if (stat.isSocket()) return 'socket'
    if (stat.isBlockDevice() || stat.isCharacterDevice()) return 'device'
    if (!stat.isFile()) return 'unreadable'
    if (!isUtf8(path)) return 'name_not_utf8'
    if (this.#redactor?.finds().push(Buffer.from(`${root}/${path}`, 'latin1'))) return 'contains_secret'
    if (this.#files.length >= MAX_FILES) return 'too_many_files'
    if (Number(stat.size) > this.#job.maxBytes - this.#bytes) return 'too_large'
    return null
  }

  /** @returns why it was left out; null when it was kept */
  #keep(path: string, tree: WorkTree, at: string): string | null {
    const name = `${this.#files.length + 1}-${plainName(path)}`
    const target = join(this.#job.target, name)
    const copied = this.#copy(tree, at, target)
    if (typeof copied === 'string') {
      rmSync(target, { force: true })
      return copied
    }
    this.#bytes += copied.sizeBytes
    this.#files.push({ path, name, ...copied, mediaType: lookup(path) ?? UNKNOWN_TYPE })
    return null
  }

  #copy(tree: WorkTree, at: string, target: string): { sizeBytes: number; sha256: string } | string {
    let from: number
    try {
      from = tree.open(at)
    } catch {
      return 'unreadable'
    }
    const to = openSync(target, 'wx', 0o600)
    try {
      if (!fstatSync(from).isFile()) return 'unreadable'
      const hash = createHash('sha256')
      const finder = this.#redactor?.finds()
      const chunk = this.#chunk
      let sizeBytes = 0
      for (let read = readSync(from, chunk); read > 0; read = readSync(from, chunk)) {
        const bytes = chunk.subarray(0, read)
        sizeBytes += read
        if (sizeBytes > this.#job.maxBytes - this.#bytes) return 'too_large'
        if (finder?.push(bytes)) return 'contains_secret'
        hash.update(bytes)
        writeAll(to, bytes)
      }
      return { sizeBytes, sha256: hash.digest('hex') }
    } finally {
      closeSync(from)
      closeSync(to)
    }
  }

  #skip(path: string, reason: string): void {
    if (this.#skipped.length < MAX_SKIPPED) this.#skipped.push({ path, reason })
    else this.#notNamed += 1
  }
}

/** As it is told: relative to /workspace. Bytes that are no UTF-8 become U+FFFD. */
function nameOf(root: string, path: string): string {
  return path === '' ? root : `${root}/${Buffer.from(path, 'latin1').toString('utf8')}`
}

function isUtf8(path: string): boolean {
  const bytes = Buffer.from(path, 'latin1')
  return Buffer.from(bytes.toString('utf8')).equals(bytes)
}

/** The end of a path as a name that is harmless everywhere. */
function plainName(path: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1).replaceAll(/[^A-Za-z0-9._-]/g, '_')
  return name.slice(-60)
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}
