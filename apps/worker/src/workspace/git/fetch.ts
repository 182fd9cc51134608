import { createHash, randomUUID } from 'node:crypto'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import git, { type HttpClient } from 'isomorphic-git'
import { createFsFromVolume, Volume } from 'memfs'
import { ObjectError, ObjectStore } from './objects.js'
import { authOf, type Remote, type Resolved } from './resolve.js'

export interface FetchOptions {
  readonly http: HttpClient
  readonly remote: Remote
  readonly resolved: Resolved & { readonly commit: string; readonly want: string }
  /** Of commits; 0 means all. */
  readonly depth: number
  /** The repository's folder; gets a `.git`. */
  readonly dir: string
  readonly received: (objects: { done: number; total: number }) => void
}

/** No single object of a repository may be larger than this, in bytes. */
export const MAX_OBJECT_BYTES = 2 ** 30

/**
 * Fetches a commit into a new repository.
 *
 * @returns the store of its objects; close it
 * @throws TaskFailure `workspace.commit_not_found` and those of the transport
 */
export async function fetchCommit(options: FetchOptions): Promise<ObjectStore> {
  const { dir, resolved } = options
  makeGitFolder(dir)
  // A server may offer only what its refs point at. Then the history of all of them holds the commit, or nothing does.
  const attempts = [
    () => fetchOnce(options, { singleBranch: true, ...(options.depth > 0 ? { depth: options.depth } : {}) }),
    () => fetchOnce(options, { singleBranch: false }),
  ]
  for (const attempt of attempts) {
    const refused = await attempt()
    const store = openStore(dir)
    if (!refused && store.has(resolved.commit)) return store
    store.close()
    removePacks(dir)
  }
  throw new TaskFailure('workspace.commit_not_found', `the repository has no commit ${resolved.commit}`)
}

/** @returns whether the server refused to give that commit */
async function fetchOnce(
  { http, remote, resolved, dir, received }: FetchOptions,
  how: { singleBranch: boolean; depth?: number },
): Promise<boolean> {
  let refused = false
  const memory = memoryRepository(remote.url)
  const watched: HttpClient = {
    request: async request => {
      const response = await http.request(request)
      if (request.method === 'POST' && response.body) {
        response.body = watchRefusal(response.body, () => {
          refused = true
        })
      }
      return response
    },
  }
  try {
    await git.fetch({
      fs: createFsFromVolume(memory),
      http: watched,
      dir: MEMORY_DIR,
      url: remote.url,
      remote: 'origin',
      ref: resolved.want,
      ...authOf(remote),
      tags: false,
      ...how,
      onProgress: ({ phase, loaded, total }) => {
        if (/^Receiving|^Resolving/.test(phase)) received({ done: loaded, total })
      },
    })
  } catch (error) {
    if (!refused) throw error
  }
  if (!refused) land(memory, dir)
  return refused
}

const MEMORY_DIR = '/repository'

/**
 * The library works on a disk in memory: whatever a server makes it write, by the name of a ref or otherwise, reaches
 * nothing of ours. It writes a file for every ref that a refspec matches, so none may match: the refs are written
 * here, when the commit is there.
 */
function memoryRepository(url: string): InstanceType<typeof Volume> {
  const nothing = `refs/heads/${randomUUID()}`
  return Volume.fromJSON({
    [`${MEMORY_DIR}/.git/HEAD`]: 'ref: refs/heads/main\n',
    [`${MEMORY_DIR}/.git/config`]: `[remote "origin"]\n\turl = ${url}\n\tfetch = ${nothing}:${nothing}\n`,
  })
}

/** Brings over what a fetch is for: the packs with their indexes, and where the history was cut. */
function land(memory: InstanceType<typeof Volume>, dir: string): void {
  const packs = '.git/objects/pack'
  const from = `${MEMORY_DIR}/${packs}`
  const names = memory.existsSync(from) ? memory.readdirSync(from).map(String) : []
  for (const name of names.filter(one => one.endsWith('.pack'))) {
    checkTrailer(memory.readFileSync(`${from}/${name}`) as Buffer)
  }
  for (const name of names.filter(one => /^pack-[0-9a-f]{40}\.(pack|idx)$/.test(one))) {
    writeFileSync(join(dir, packs, name), memory.readFileSync(`${from}/${name}`))
  }
  const shallow = `${MEMORY_DIR}/.git/shallow`
  if (memory.existsSync(shallow)) writeFileSync(join(dir, '.git/shallow'), memory.readFileSync(shallow))
}

const TRAILER_BYTES = 20

/** The library takes a pack's own word for what it is. @throws ObjectError when it is not whole */
function checkTrailer(pack: Buffer): void {
  const body = pack.subarray(0, -TRAILER_BYTES)
  if (!createHash('sha1').update(body).digest().equals(pack.subarray(-TRAILER_BYTES))) {
    throw new ObjectError('the pack is not what its trailer says')
  }
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

function openStore(dir: string): ObjectStore {
  return new ObjectStore(join(dir, '.git'), MAX_OBJECT_BYTES)
}

function removePacks(dir: string): void {
  const folder = join(dir, '.git/objects/pack')
  for (const name of readdirSync(folder)) rmSync(join(folder, name))
  rmSync(join(dir, '.git/shallow'), { force: true })
}

/**
 * Names in the repository what `git clone` would have: the branch and its remote twin, or the tag, and HEAD. What
 * isomorphic-git wrote of refs goes.
 */
export function writeRefs(dir: string, { commit, ref, want }: FetchOptions['resolved']): string | null {
  const at = join(dir, '.git')
  for (const leftover of ['refs/remotes', 'FETCH_HEAD', 'packed-refs'])
    rmSync(join(at, leftover), { recursive: true, force: true })
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

/** An empty list of shallow commits makes git warn. Packs are read-only, as git leaves them. */
export function mendObjects(dir: string): void {
  const shallow = join(dir, '.git/shallow')
  if (existsSync(shallow)) {
    const text = readFileSync(shallow, 'utf8').trim()
    if (text === '') rmSync(shallow)
    else if (!text.endsWith('\n')) {
      writeFileSync(shallow, text)
      appendFileSync(shallow, '\n')
    }
  }
  const packs = join(dir, '.git/objects/pack')
  for (const name of readdirSync(packs)) chmodSync(join(packs, name), 0o444)
}
