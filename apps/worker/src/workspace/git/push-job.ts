import { createReadStream, statSync } from 'node:fs'
import { Readable } from 'node:stream'
import { TaskFailure } from '@agirunner/contracts/failure'
import type { GitHttpResponse } from 'isomorphic-git'
import type { Progress } from '../children/serve.js'
import { withoutSecrets } from './credentials.js'
import { ObjectStore } from './objects.js'
import { LineError } from './pkt-lines.js'
import { line, NO_COMMIT, type Offer, parseOffer, parseReport, type Report } from './receive-pack.js'
import { MAX_OBJECT_BYTES } from './repository.js'
import type { RemoteJob } from './snapshot-job.js'
import { GitTransport, TransientFailure } from './transport.js'
import { parseCommit } from './tree.js'

export interface PushJob extends RemoteJob {
  /** Without `refs/heads/`. */
  readonly branch: string
  readonly sha: string
  /** Whether the branch may lose commits. */
  readonly force: boolean
  /** The file with the objects that the server may lack. */
  readonly pack: string
  /** The commits in it, and the base that they lie on with the `.git` that holds its history; null for no base. */
  readonly commits: readonly string[]
  readonly base: { readonly commit: string; readonly gitDir: string } | null
}

/** What one try came to. */
export type Pushed =
  | { readonly state: 'pushed' }
  /** Worth another try; `sent` when the server may have taken it without our hearing of it. */
  | {
      readonly state: 'unreachable'
      readonly reason: string
      readonly again: boolean
      readonly sent: boolean
    }

/** The branch may move while we look; then we look again, so often at most. */
const MAX_RACES = 3
/** Of a server's words in a message. */
const MAX_SAID = 500
/** Reasons of a server that say that somebody else was there at the same time. */
const RACE = /lock|incorrect old value|already exists|stale|expected|fetch first/i
/** How many commits of the base's history are looked at. */
const MAX_HISTORY = 1_000_000

/**
 * Sets a branch to a commit, once. A branch that is there already counts as set: an earlier try may have been heard.
 *
 * @throws TaskFailure `push.rejected`, `workspace.auth_failed`, `workspace.not_found`, `workspace.url_forbidden`
 */
export async function runPush(job: PushJob, progress: Progress): Promise<Pushed> {
  const state = { sent: false }
  try {
    return await withTransport(job, transport => new Push(job, transport, progress, state).run())
  } catch (error) {
    const away = unreachable(error, job, state.sent)
    // What was sent may have been taken, whatever became of the answer.
    return state.sent && (await isSet(job, progress)) ? { state: 'pushed' } : away
  }
}

async function isSet(job: PushJob, progress: Progress): Promise<boolean> {
  const ask = (transport: GitTransport) => new Push(job, transport, progress, { sent: false }).isSet()
  return await withTransport(job, ask).catch(() => false)
}

async function withTransport<T>(job: PushJob, work: (transport: GitTransport) => Promise<T>): Promise<T> {
  const received = () => undefined
  const transport = new GitTransport({ ...job.transport, received, credentials: job.remote.credentials })
  try {
    return await Promise.race([work(transport), transport.failed])
  } catch (error) {
    throw transport.failure ?? error
  } finally {
    transport.close()
  }
}

/** @throws TaskFailure for what the server said, and what no other try would change */
function unreachable(error: unknown, job: PushJob, sent: boolean): Pushed {
  const host = new URL(job.remote.url).host
  if (error instanceof LineError) {
    const reason = `${host} does not answer like a git server; ${clean(error.message, job)}`
    return { state: 'unreachable', reason, again: false, sent }
  }
  if (!(error instanceof TaskFailure)) throw error
  if (!AWAY.has(error.code)) throw error
  return { state: 'unreachable', reason: error.message, again: error instanceof TransientFailure, sent }
}

const AWAY: ReadonlySet<string> = new Set([
  'workspace.remote_unreachable',
  'workspace.remote_broken',
  'workspace.timeout',
  'workspace.too_large',
])

class Push {
  readonly #job: PushJob
  readonly #transport: GitTransport
  readonly #progress: Progress
  readonly #state: { sent: boolean }
  readonly #ref: string
  readonly #host: string

  constructor(job: PushJob, transport: GitTransport, progress: Progress, state: { sent: boolean }) {
    this.#job = job
    this.#transport = transport
    this.#progress = progress
    this.#state = state
    this.#ref = `refs/heads/${job.branch}`
    this.#host = new URL(job.remote.url).host
  }

  async run(): Promise<Pushed> {
    const { sha } = this.#job
    let last: string | null = null
    for (let races = 0; ; races += 1) {
      const offer = await this.#ask()
      const old = offer.refs.get(this.#ref) ?? NO_COMMIT
      if (old === sha) return { state: 'pushed' }
      this.#checkForward(old)
      const why = await this.#send(old, offer)
      if (why === null) return { state: 'pushed' }
      const moved = last !== old
      last = old
      if (!RACE.test(why.reason) || !moved || races === MAX_RACES) throw this.#rejected(why.reason, why.said)
    }
  }

  async isSet(): Promise<boolean> {
    const { refs } = await this.#ask()
    return refs.get(this.#ref) === this.#job.sha
  }

  async #ask(): Promise<Offer> {
    this.#progress({ stage: 'push', step: 'ask' })
    const url = `${this.#job.remote.url}/info/refs?service=git-receive-pack`
    const response = await this.#transport.request({ url, method: 'GET', headers: this.#headers() })
    if (response.statusCode === 401) throw this.#unauthorized()
    const offer = parseOffer(await bodyOf(response))
    if (offer.capabilities.has('object-format=sha256'))
      throw this.#rejected('its repository names objects by SHA-256, which this runtime does not make', '')
    return offer
  }

  /** Whether the branch keeps all that it has. Servers are not relied on: most take anything by default. */
  #checkForward(old: string): void {
    const { force, commits, base } = this.#job
    if (force || old === NO_COMMIT || commits.includes(old) || (base && isAncestor(old, base))) return
    const known = base ? 'the history that the task started from' : 'what the task has made'
    throw new TaskFailure(
      'push.rejected',
      `branch "${this.#job.branch}" at ${this.#host} is at ${old}, which is not part of ${known} (non-fast-forward)`,
      {
        hint: 'push to another branch; or set capture.push.force, which takes from the branch what it has. An older commit is recognized only within workspace.source.depth',
      },
    )
  }

  /** @returns null when the server has set the branch, else what it says */
  async #send(old: string, { capabilities }: Offer): Promise<{ reason: string; said: string } | null> {
    const banded = capabilities.has('side-band-64k')
    const asked = ['report-status', ...(banded ? ['side-band-64k'] : []), 'agent=agirunner']
    if (capabilities.has('object-format=sha1')) asked.push('object-format=sha1')
    const command = `${old} ${this.#job.sha} ${this.#ref}\0 ${asked.join(' ')}`
    const head = Buffer.concat([line(command), Buffer.from('0000')])
    const { pack, remote } = this.#job
    const length = head.length + statSync(pack).size
    this.#progress({ stage: 'push', step: 'send', bytes: length })
    this.#state.sent = true
    const response = await this.#transport.upload(
      {
        url: `${remote.url}/git-receive-pack`,
        headers: {
          ...this.#headers(),
          'content-type': 'application/x-git-receive-pack-request',
          accept: 'application/x-git-receive-pack-result',
        },
      },
      { length, open: () => Readable.from(joined(head, pack)) },
    )
    if (response.statusCode === 401) throw this.#unauthorized()
    if (response.statusCode === 413) return { reason: `it takes no push of ${length} bytes`, said: '' }
    return this.#judge(parseReport(await bodyOf(response), banded))
  }

  #judge({ unpack, refs, said }: Report): { reason: string; said: string } | null {
    const why = refs.get(this.#ref)
    if (unpack === 'ok' && why === null) return null
    if (unpack !== null && unpack !== 'ok')
      return { reason: `it could not take the objects: ${unpack}`, said }
    if (typeof why === 'string') return { reason: why, said }
    // Neither yes nor no: the refs say, when they are asked again.
    throw new TransientFailure(
      'workspace.remote_broken',
      `${this.#host} did not say whether it took the push`,
    )
  }

  #rejected(reason: string, said: string): TaskFailure {
    const words = clean(said, this.#job)
    const message = `${this.#host} did not take branch "${this.#job.branch}": ${clean(reason, this.#job)}`
    return new TaskFailure('push.rejected', words === '' ? message : `${message}; it says "${words}"`)
  }

  #unauthorized(): TaskFailure {
    const why = `${this.#host} answered 401: it wants other credentials for a push`
    return new TaskFailure('workspace.auth_failed', why, {
      hint: 'check source.credentials, and that they may write to the repository',
    })
  }

  #headers(): Record<string, string> {
    const { credentials } = this.#job.remote
    const agent = { 'user-agent': 'git/agirunner' }
    if (credentials === null) return agent
    const pair = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')
    return { ...agent, authorization: `Basic ${pair}` }
  }
}

/** A server's words for a person: without the credentials, on one line, not too many. */
function clean(text: string, { remote }: PushJob): string {
  const plain = withoutSecrets(text, remote.credentials).replace(/[\p{C}\s]+/gu, ' ')
  return plain.trim().slice(0, MAX_SAID)
}

function isAncestor(wanted: string, { commit, gitDir }: { commit: string; gitDir: string }): boolean {
  if (wanted === commit) return true
  const store = new ObjectStore(gitDir, MAX_OBJECT_BYTES)
  try {
    if (!store.has(wanted)) return false
    const seen = new Set([commit])
    for (const oid of seen) {
      if (oid === wanted) return true
      if (seen.size > MAX_HISTORY) return false
      // Where the history was cut there are no parents.
      if (store.has(oid))
        for (const parent of parseCommit(store.read(oid, 'commit').data).parents) seen.add(parent)
    }
    return false
  } finally {
    store.close()
  }
}

async function* joined(head: Buffer, path: string): AsyncGenerator<Buffer> {
  yield head
  yield* createReadStream(path) as AsyncIterable<Buffer>
}

async function bodyOf({ body }: GitHttpResponse): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  if (body) for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks)
}
