import { TaskFailure } from '@agirunner/contracts/failure'
import { isRefName } from '@agirunner/contracts/ref-name'
import git, { type HttpClient, type ServerRef } from 'isomorphic-git'
import type { Credentials } from './credentials.js'

/** What to check out. */
export interface Resolved {
  /** Null for an empty repository. */
  readonly commit: string | null
  /** The full name of the ref; null when a commit was asked for. */
  readonly ref: string | null
  /** The object to ask the server for: the commit, or the annotated tag that names it. */
  readonly want: string | null
}

/** What to fetch: `Resolved` of a repository that has commits. */
export type Wanted = Resolved & { readonly commit: string; readonly want: string }

export interface Remote {
  readonly url: string
  readonly credentials: Credentials | null
}

const SHA = /^[0-9a-f]{40}$/
const SHORT_SHA = /^[0-9a-f]{4,39}$/

/** isomorphic-git's callbacks that answer a 401 once, and then give up. */
export function authOf({ credentials }: Remote) {
  return { onAuth: () => credentials ?? { cancel: true }, onAuthFailure: () => ({ cancel: true }) }
}

/**
 * Finds the commit that `ref` names at the remote now: as full ref, branch, tag or SHA; its default branch for null.
 *
 * @throws TaskFailure `workspace.ref_not_found`, `workspace.remote_broken`
 */
export async function resolveRef(http: HttpClient, remote: Remote, ref: string | null): Promise<Resolved> {
  const refs = await listRefs(http, remote)
  const byName = new Map(refs.map(found => [found.ref, found]))
  if (ref === null) return defaultOf(byName)
  if (refs.length === 0) throw refNotFound(`the repository is empty, so it has no "${ref}"`)
  const named = byName.get(ref) ?? byName.get(`refs/heads/${ref}`) ?? byName.get(`refs/tags/${ref}`)
  if (named) return resolvedAs(named, byName)
  const sha = ref.toLowerCase()
  if (SHA.test(sha)) return { commit: sha, ref: null, want: sha }
  if (SHORT_SHA.test(sha)) return byPrefix(sha, refs)
  throw refNotFound(`"${ref}" is neither a ref, a branch, a tag nor a commit of the repository`)
}

/** What the server offers, without what can be no ref: git passes those over as well. */
async function listRefs(http: HttpClient, remote: Remote): Promise<ServerRef[]> {
  const refs = await git.listServerRefs({
    http,
    url: remote.url,
    ...authOf(remote),
    protocolVersion: 2,
    symrefs: true,
    peelTags: true,
  })
  // Ids become the names of folders.
  if (refs.some(({ oid, peeled }) => !SHA.test(oid) || !SHA.test(peeled ?? oid))) {
    throw new TaskFailure(
      'workspace.remote_broken',
      `${new URL(remote.url).host} lists refs without valid ids`,
    )
  }
  return refs.filter(({ ref }) => isRefName(ref))
}

function defaultOf(refs: ReadonlyMap<string, ServerRef>): Resolved {
  const head = refs.get('HEAD')
  if (head) return resolvedAs(head, refs)
  if (refs.size === 0) return { commit: null, ref: null, want: null }
  throw refNotFound('the repository has no default branch; name one in workspace.source.ref')
}

function resolvedAs(found: ServerRef, refs: ReadonlyMap<string, ServerRef>): Resolved {
  const commit = found.peeled ?? found.oid
  const target = found.ref === 'HEAD' ? headTarget(found, refs) : found.ref
  return { commit, ref: target, want: found.oid }
}

/** The branch that HEAD is. Servers that don't say which: the one of the usual names that is at the same commit. */
function headTarget(head: ServerRef, refs: ReadonlyMap<string, ServerRef>): string | null {
  if (head.target !== undefined && isRefName(head.target)) return head.target
  const usual = ['refs/heads/main', 'refs/heads/master']
  return usual.find(name => refs.get(name)?.oid === head.oid) ?? null
}

function byPrefix(prefix: string, refs: readonly ServerRef[]): Resolved {
  const tips = new Set(refs.map(({ oid, peeled }) => peeled ?? oid).filter(oid => oid.startsWith(prefix)))
  const [commit] = tips
  if (tips.size > 1)
    throw refNotFound(`"${prefix}" is the beginning of ${tips.size} commits; give more digits`)
  if (commit === undefined)
    throw refNotFound(`"${prefix}" is neither a ref nor the beginning of a commit that a ref names`)
  return { commit, ref: null, want: commit }
}

function refNotFound(message: string): TaskFailure {
  return new TaskFailure('workspace.ref_not_found', message)
}
