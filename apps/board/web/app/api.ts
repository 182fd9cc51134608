import type { Session } from '../../src/api.js'
import { Store } from '../lib/store.js'

/** Who is logged in: undefined until that is known, null for nobody. */
export const session = new Store<Session | null | undefined>(undefined)

/** A request that the server refused, or that did not reach it. */
export class Refusal extends Error {
  override name = 'Refusal'
  /** 0 when there was no answer. */
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

interface Request {
  /** Makes it a POST. */
  readonly body?: unknown
  readonly signal?: AbortSignal
}

/**
 * Asks the board's server. Without a session, whoever watches `session` is told.
 *
 * @param path below `api/`
 * @throws Refusal
 */
export async function ask(path: string, request: Request = {}): Promise<Response> {
  const isPost = 'body' in request
  const init = {
    method: isPost ? 'POST' : 'GET',
    headers: isPost ? { 'content-type': 'application/json', 'x-csrf-token': session.value?.csrf ?? '' } : {},
    ...(isPost && { body: JSON.stringify(request.body) }),
    ...(request.signal && { signal: request.signal }),
  }
  // What changes something may have arrived, and is not sent again.
  const response = await fetchAgain(path, init, isPost ? [] : PAUSES_MS).catch((error: unknown) => {
    if (request.signal?.aborted) throw error
    throw new Refusal(0, 'The board does not answer. Check that it runs and that you are connected.')
  })
  if (response.ok) return response
  if (response.status === 401) session.set(null)
  throw new Refusal(response.status, await reasonOf(response))
}

/** Before a question that got no answer is asked again: a change of the network breaks off what is under way. */
const PAUSES_MS: readonly number[] = [200, 1000]

async function fetchAgain(
  path: string,
  init: RequestInit,
  [pauseMs, ...more]: readonly number[],
): Promise<Response> {
  const response = fetch(new URL(`api/${path}`, document.baseURI), init)
  if (pauseMs === undefined) return await response
  return await response.catch(async (error: unknown) => {
    if (init.signal?.aborted) throw error
    await new Promise(resolve => setTimeout(resolve, pauseMs))
    return await fetchAgain(path, init, more)
  })
}

export async function askJson<T>(path: string, request?: Request): Promise<T> {
  return (await ask(path, request)).json() as Promise<T>
}

async function reasonOf(response: Response): Promise<string> {
  const answer: unknown = await response.json().catch(() => null)
  const said = answer !== null && typeof answer === 'object' && 'error' in answer ? answer.error : null
  return typeof said === 'string' ? said : `The board answered with ${response.status}.`
}

/** What to tell a person about a failed request; null for one that was given up on purpose. */
export function complaintOf(error: unknown): string | null {
  if (error instanceof DOMException && error.name === 'AbortError') return null
  return error instanceof Error ? error.message : String(error)
}

/** @throws Refusal when the password is wrong, or was tried too often */
export async function logIn(password: string): Promise<void> {
  session.set(await askJson<Session>('login', { body: { password } }))
}

export async function logOut(): Promise<void> {
  await ask('logout', { body: {} })
  session.set(null)
}

export async function findSession(): Promise<void> {
  session.set(await askJson<Session>('session'))
}
