import { randomUUID } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts/failure'
import { closureOf } from './closure.js'
import { walkHistory } from './history.js'
import { ObjectStore } from './objects.js'
import { indexPack } from './pack-index.js'
import { writePack } from './pack-writer.js'

/** What was fetched for one commit: which packs hold it, and where its history ends. */
export interface Fetched {
  readonly commit: string
  /** The object that was asked for: the commit, or the annotated tag that names it. */
  readonly want: string
  /** In generations; 0 is all of them. */
  readonly depth: number
  /** File names without their endings. */
  readonly packs: readonly string[]
  readonly shallow: readonly string[]
  /** Whether the packs hold what a clone of the commit holds and nothing else. */
  readonly exact: boolean
}

/** No single object of a repository may be larger than this, in bytes. */
export const MAX_OBJECT_BYTES = 2 ** 30
/** A commit whose objects lie in more packs than this is fetched anew, as one. */
const MAX_PACKS = 24
/** How many commits a server is told that we have; the most recent ones. */
const MAX_HAVES = 16
/** Commits that are remembered; each may have a pack of its own. */
const MAX_FETCHED = 16
/** Commits of a history whose trees are gone through. */
const MAX_NARROWED = 1000
const YOUNG_MS = 3600 * 1000
const ABANDONED_MS = 24 * 3600 * 1000
const PACK_NAME = /^pack-[0-9a-f]{40}$/

/** Where fetches into a bare repository put what is not whole yet. */
export const incomingFolder = (repository: string) => join(repository, 'incoming')

/**
 * The bare repository that keeps what was fetched from one remote: `objects/pack` with the packs as they came, and
 * `fetched/<want>-<depth>.json` with what they are good for. Everything in it is written aside and renamed, so that
 * several fetches may work on it at once and a killed one leaves nothing that counts. In child processes only.
 */
export class BareRepository {
  readonly #dir: string
  readonly #incoming: string

  /** @param incoming a folder for what is not whole yet; needed to add something */
  constructor(dir: string, incoming = incomingFolder(dir)) {
    this.#dir = dir
    this.#incoming = incoming
  }

  /** Makes what is missing of it. */
  make(): void {
    for (const folder of ['objects/info', 'objects/pack', 'refs/heads', 'fetched', 'incoming']) {
      mkdirSync(join(this.#dir, folder), { recursive: true, mode: 0o755 })
    }
    for (const [name, text] of Object.entries(BARE_FILES)) {
      if (!existsSync(join(this.#dir, name))) writeFileSync(join(this.#dir, name), text)
    }
    this.#sweep()
  }

  /** No fetch takes this long: what is still here was left by a worker that was killed. */
  #sweep(): void {
    const folder = incomingFolder(this.#dir)
    for (const name of readdirSync(folder)) {
      if (Date.now() - modifiedAt(join(folder, name)) > ABANDONED_MS)
        rmSync(join(folder, name), { recursive: true, force: true })
    }
  }

  get packFolder(): string {
    return join(this.#dir, 'objects/pack')
  }

  /** A path for a pack that comes in. */
  incoming(): string {
    return join(this.#incoming, `${randomUUID()}.pack`)
  }

  /** The objects of some packs. Close it. */
  store(packs: readonly string[]): ObjectStore {
    return new ObjectStore(this.#dir, MAX_OBJECT_BYTES, undefined, packs)
  }

  /** What was fetched for `want` and reaches at least as deep, cut to `depth`; null when nothing does. */
  find(want: string, commit: string, depth: number): Fetched | null {
    for (const known of this.#all()) {
      if (known.want !== want && known.commit !== commit) continue
      if (known.depth !== 0 && (depth === 0 || known.depth < depth)) continue
      const found = this.#cutTo(known, want, commit, depth)
      if (found) return found
    }
    return null
  }

  /** What a server may be told that we have, most recent first: as much as fits into one repository with a new pack. */
  haves(depth: number): { commits: string[]; packs: string[]; shallow: string[] } {
    const commits: string[] = []
    const packs = new Set<string>()
    const shallow = new Set<string>()
    for (const known of this.#all()) {
      // The whole history can only be asked for from what is whole itself.
      if (depth === 0 && known.shallow.length > 0) continue
      const together = new Set([...packs, ...known.packs])
      if (together.size >= MAX_PACKS || commits.length >= MAX_HAVES) continue
      commits.push(known.commit)
      for (const pack of known.packs) packs.add(pack)
      for (const oid of known.shallow) shallow.add(oid)
    }
    return { commits, packs: [...packs], shallow: [...shallow] }
  }

  /** Takes in a pack with its index. @param id as `indexPack` gave it @returns its name */
  adopt(path: string, id: string): string {
    const name = `pack-${id}`
    for (const [from, ending] of [
      [path, 'pack'],
      [path.replace(/pack$/, 'idx'), 'idx'],
    ] as const) {
      // Read-only for everybody, as git leaves packs; and root's, so that no task's layer gets a copy of one.
      chmodSync(from, 0o444)
      renameSync(from, join(this.packFolder, `${name}.${ending}`))
    }
    return name
  }

  /** Notes what was fetched. */
  remember(fetched: Fetched): void {
    const draft = join(this.#incoming, `${randomUUID()}.json`)
    writeFileSync(draft, JSON.stringify(fetched))
    renameSync(draft, this.#record(fetched.want, fetched.depth))
  }

  /**
   * Makes a pack of its own for a commit whose objects lie among others, so that a snapshot of it is what a clone would
   * be. A long history is left as it is: all of its trees would have to be gone through.
   */
  narrow(fetched: Fetched): Fetched {
    if (fetched.exact) return fetched
    const { want, commit, depth } = fetched
    const shallow = new Set(fetched.shallow)
    const store = this.store(fetched.packs)
    const path = this.incoming()
    try {
      const history = walkHistory(store, commit, depth, shallow)
      if (!history || history.commits > MAX_NARROWED) return fetched
      const oids = closureOf(store, want, commit, shallow)
      writePack(store, oids, path)
      const nothing = () => undefined
      const id = indexPack(path, { maxObjectBytes: MAX_OBJECT_BYTES, progress: nothing, known: () => null })
      return { ...fetched, packs: [this.adopt(path, id)], exact: true }
    } finally {
      store.close()
      for (const ending of ['pack', 'idx']) rmSync(path.replace(/pack$/, ending), { force: true })
    }
  }

  /** A recent one is told to servers first. */
  touch({ want, depth }: Fetched): void {
    const now = new Date()
    try {
      utimesSync(this.#record(want, depth), now, now)
    } catch {
      // A cut of a deeper one has no record of its own.
    }
  }

  /** Forgets the commits that were not asked for lately, and removes the packs that none of the others needs. */
  collect(): void {
    const all = this.#all()
    const kept = all.slice(0, MAX_FETCHED)
    const records = new Set(kept.map(({ want, depth }) => this.#record(want, depth)))
    const folder = join(this.#dir, 'fetched')
    for (const path of readdirSync(folder).map(name => join(folder, name))) {
      if (!records.has(path)) rmSync(path, { force: true })
    }
    const needed = new Set(kept.flatMap(({ packs }) => packs))
    for (const name of readdirSync(this.packFolder)) {
      const path = join(this.packFolder, name)
      // A young one may be of a fetch that is about to remember it.
      if (needed.has(name.replace(/\.(pack|idx)$/, '')) || Date.now() - changedAt(path) < YOUNG_MS) continue
      rmSync(path, { force: true })
    }
  }

  forget({ want, depth }: Fetched): void {
    rmSync(this.#record(want, depth), { force: true })
  }

  #record(want: string, depth: number): string {
    return join(this.#dir, 'fetched', `${want}-${depth}.json`)
  }

  #cutTo(known: Fetched, want: string, commit: string, depth: number): Fetched | null {
    const store = this.store(known.packs)
    try {
      if (!store.has(want)) return null
      const history = walkHistory(store, commit, depth, new Set(known.shallow))
      if (!history) return null
      const exact = known.exact && known.depth === depth && known.want === want
      return { commit, want, depth, packs: known.packs, shallow: history.shallow, exact }
    } finally {
      store.close()
    }
  }

  /** Whatever can be used, most recent first. */
  #all(): Fetched[] {
    const folder = join(this.#dir, 'fetched')
    const there = new Set(readdirSync(this.packFolder))
    return readdirSync(folder)
      .map(name => ({ name, at: modifiedAt(join(folder, name)) }))
      .toSorted((a, b) => b.at - a.at)
      .map(({ name }) => readFetched(join(folder, name)))
      .filter(known => known !== null)
      .filter(({ packs }) => packs.every(pack => there.has(`${pack}.pack`) && there.has(`${pack}.idx`)))
  }
}

const BARE_FILES = {
  HEAD: 'ref: refs/heads/main\n',
  config: '[core]\n\trepositoryformatversion = 0\n\tbare = true\n',
}

function readFetched(path: string): Fetched | null {
  try {
    const read = JSON.parse(readFileSync(path, 'utf8')) as Fetched
    return read.packs.every(pack => PACK_NAME.test(pack)) ? read : null
  } catch {
    return null
  }
}

function modifiedAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** When it got its name, which a rename does not tell otherwise. */
function changedAt(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.ctimeMs ?? Date.now()
}

export function commitNotFound(commit: string): TaskFailure {
  return new TaskFailure('workspace.commit_not_found', `the repository has no commit ${commit}`)
}
