import { randomUUID } from 'node:crypto'
import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import git, { type HttpClient } from 'isomorphic-git'
import { createFsFromVolume, Volume } from 'memfs'
import { walkHistory } from './history.js'
import { ObjectError } from './objects.js'
import { indexPack } from './pack-index.js'
import { type BareRepository, commitNotFound, type Fetched, MAX_OBJECT_BYTES } from './repository.js'
import { authOf, type Remote, type Wanted } from './resolve.js'
import { withoutPack } from './side-band.js'

export interface FetchOptions {
  readonly http: HttpClient
  readonly remote: Remote
  readonly wanted: Wanted
  /** Of commits; 0 means all. */
  readonly depth: number
  /** Where it goes. */
  readonly repository: BareRepository
  /** Told how many of a pack's objects have been read. */
  readonly received: (objects: { done: number; total: number }) => void
}

/** How to ask: for one object or for all branches, and what to say that we have. */
interface Way {
  readonly all: boolean
  readonly depth: number
  readonly haves: ReturnType<BareRepository['haves']>
}

const NOTHING: Way['haves'] = { commits: [], packs: [], shallow: [] }

/**
 * Brings a commit with its history into the repository, and of that only what is missing.
 *
 * @throws TaskFailure `workspace.commit_not_found` and those of the transport
 */
export async function fetchCommit(options: FetchOptions): Promise<Fetched> {
  const { repository, wanted, depth } = options
  repository.make()
  const known = repository.find(wanted.want, wanted.commit, depth)
  if (known) {
    repository.touch(known)
    return narrow(repository, known)
  }
  const haves = repository.haves(depth)
  const ways: Way[] = [
    ...(haves.commits.length > 0 ? [{ all: false, depth, haves }] : []),
    { all: false, depth, haves: NOTHING },
    // A server may offer only what its refs point at. Then the history of all of them holds the commit, or nothing does.
    { all: true, depth: 0, haves: NOTHING },
  ]
  for (const way of ways) {
    const answer = await fetchOnce(options, way)
    const fetched = answer && look(options, way, answer)
    if (fetched) {
      if (way.all) repository.remember(fetched)
      return narrow(repository, cut(options, fetched))
    }
  }
  throw commitNotFound(wanted.commit)
}

/** What is remembered is what a clone holds, where that is not too much to find out. */
function narrow(repository: BareRepository, fetched: Fetched): Fetched {
  const exact = repository.narrow(fetched)
  repository.remember(exact)
  repository.collect()
  return exact
}

interface Answer {
  /** The packs that hold the commit, if anything does. */
  readonly packs: readonly string[]
  /** What the repository then ends at, in the server's words. */
  readonly shallow: ReadonlySet<string>
}

/** Whether all that was asked for is there now. */
function look(
  { repository, wanted, depth }: FetchOptions,
  way: Way,
  { packs, shallow }: Answer,
): Fetched | null {
  const store = repository.store(packs)
  try {
    if (!store.has(wanted.want)) return null
    const history = walkHistory(store, wanted.commit, way.all ? 0 : depth, shallow)
    if (!history) return null
    // A pack that was made for this question alone holds its answer alone.
    const exact = !way.all && way.haves.packs.length === 0 && packs.length === 1
    return { ...wantedOf(wanted), depth: way.depth, packs, shallow: history.shallow, exact }
  } finally {
    store.close()
  }
}

/** All was fetched where only some was wanted: the snapshot shows no more than was wanted. */
function cut({ repository, wanted, depth }: FetchOptions, fetched: Fetched): Fetched {
  if (fetched.depth === depth) return fetched
  return repository.find(wanted.want, wanted.commit, depth) ?? fetched
}

function wantedOf({ commit, want }: Wanted): Pick<Fetched, 'commit' | 'want'> {
  return { commit, want }
}

/** @returns null when the server refuses to give that object */
async function fetchOnce(options: FetchOptions, way: Way): Promise<Answer | null> {
  const { http, remote, wanted, repository, received } = options
  const memory = memoryRepository(remote.url, way.haves.shallow)
  const pack = new IncomingPack(repository.incoming())
  let refused = false
  const watched: HttpClient = {
    request: async request => {
      if (request.method !== 'POST') return await http.request(request)
      const body = request.body && tellHaves(request.body, way.haves.commits)
      const response = await http.request({ ...request, ...(body ? { body } : {}) })
      if (!response.body) return response
      const passed = watchRefusal(response.body, () => {
        refused = true
      })
      return { ...response, body: withoutPack(passed, data => pack.write(data)) }
    },
  }
  try {
    await git
      .fetch({
        fs: createFsFromVolume(memory),
        http: watched,
        dir: MEMORY_DIR,
        url: remote.url,
        remote: 'origin',
        ref: wanted.want,
        ...authOf(remote),
        tags: false,
        singleBranch: !way.all,
        ...(way.depth > 0 ? { depth: way.depth } : {}),
      })
      .catch((error: unknown) => {
        if (!refused) throw error
      })
    if (refused) return null
    const name = pack.isEmpty ? null : adopt(repository, pack, way.haves.packs, received)
    // A server may send again what we have, byte for byte.
    const packs = [...new Set([...way.haves.packs, ...(name === null ? [] : [name])])]
    return { packs, shallow: shallowOf(memory) }
  } finally {
    pack.remove()
  }
}

function adopt(
  repository: BareRepository,
  pack: IncomingPack,
  known: readonly string[],
  received: FetchOptions['received'],
): string {
  pack.close()
  const store = repository.store(known)
  try {
    const id = indexPack(pack.path, {
      maxObjectBytes: MAX_OBJECT_BYTES,
      progress: (done, total) => received({ done, total }),
      known: oid => (store.has(oid) ? store.read(oid) : null),
    })
    return repository.adopt(pack.path, id)
  } finally {
    store.close()
  }
}

/** A pack on its way to the disk. */
class IncomingPack {
  readonly path: string
  #fd: number | null = null
  #bytes = 0

  constructor(path: string) {
    this.path = path
  }

  get isEmpty(): boolean {
    return this.#bytes === 0
  }

  write(data: Uint8Array): void {
    this.#fd ??= openSync(this.path, 'wx', 0o600)
    for (let written = 0; written < data.length; ) written += writeSync(this.#fd, data, written)
    this.#bytes += data.length
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }

  /** What was not taken over. */
  remove(): void {
    this.close()
    for (const ending of ['pack', 'idx']) rmSync(this.path.replace(/pack$/, ending), { force: true })
  }
}

const MEMORY_DIR = '/repository'

/**
 * The library works on a disk in memory: whatever a server makes it write, by the name of a ref or otherwise, reaches
 * nothing of ours. It writes a file for every ref that a refspec matches, so none may match: the refs are written
 * with the snapshot, when the commit is there.
 */
function memoryRepository(url: string, shallow: readonly string[]): InstanceType<typeof Volume> {
  const nothing = `refs/heads/${randomUUID()}`
  return Volume.fromJSON({
    [`${MEMORY_DIR}/.git/HEAD`]: 'ref: refs/heads/main\n',
    [`${MEMORY_DIR}/.git/config`]: `[remote "origin"]\n\turl = ${url}\n\tfetch = ${nothing}:${nothing}\n`,
    ...(shallow.length > 0 ? { [SHALLOW_FILE]: shallow.map(oid => `${oid}\n`).join('') } : {}),
  })
}

const SHALLOW_FILE = `${MEMORY_DIR}/.git/shallow`

function shallowOf(memory: InstanceType<typeof Volume>): Set<string> {
  if (!memory.existsSync(SHALLOW_FILE)) return new Set()
  return new Set(
    String(memory.readFileSync(SHALLOW_FILE, 'utf8'))
      .split('\n')
      .filter(line => line !== ''),
  )
}

const DONE = Buffer.from('0009done\n')

/** The last of what the library says that it can do; before it there is room for one more. */
const CAPABILITY = ' ofs-delta'

/**
 * Says in a fetch request what we have. The library looks for that in the refs of its own repository, which is empty
 * here; so the lines are put where it would have put them. With them goes that the pack may be thin, which the library
 * can't make whole and `indexPack` can: without that word git's server sends a shallow commit with all its files,
 * whatever we have.
 */
async function* tellHaves(
  body: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  commits: readonly string[],
): AsyncGenerator<Uint8Array, void, undefined> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  const request = Buffer.concat(chunks)
  const end = request.length - DONE.length
  if (end < 0 || !request.subarray(end).equals(DONE)) throw new ObjectError('a fetch request has no end')
  // 50 bytes: the length itself, "have ", 40 digits, a newline.
  const haves = commits.map(oid => Buffer.from(`0032have ${oid}\n`))
  const first = Number.parseInt(request.toString('latin1', 0, 4), 16)
  yield Buffer.concat([mayBeThin(request.subarray(0, first)), request.subarray(first, end), ...haves, DONE])
}

function mayBeThin(line: Buffer): Buffer {
  const text = line.toString('latin1', 4).replace(CAPABILITY, ` thin-pack${CAPABILITY}`)
  return Buffer.from((text.length + 4).toString(16).padStart(4, '0') + text, 'latin1')
}

/** Notices the line with which a server says that it won't give a commit; isomorphic-git takes it for an empty pack. */
async function* watchRefusal(
  body: AsyncIterableIterator<Uint8Array>,
  refuse: () => void,
): AsyncGenerator<Uint8Array, void, undefined> {
  let head = ''
  for await (const chunk of body) {
    if (head.length < 512) {
      head += Buffer.from(chunk.subarray(0, 512)).toString('latin1')
      if (/^[0-9a-f]{4}ERR /.test(head) || /not our ref|not a valid object|unadvertised object/i.test(head))
        refuse()
    }
    yield chunk
  }
}
