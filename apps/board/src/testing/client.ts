import { request as httpRequest } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Session } from '../api.js'
import { type Board, type BoardOptions, createBoard } from '../server.js'

export const OPERATOR = 'correct horse battery'
export const VIEWER = 'only looking around'

export async function startBoard(
  redisUrl: string,
  queue: string,
  more: Partial<BoardOptions> = {},
): Promise<Board> {
  const place = { redisUrl, queue, host: '127.0.0.1', port: 0 }
  return await createBoard({ ...place, password: OPERATOR, viewerPassword: VIEWER, ...more })
}

export function basic(user: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }
}

/** What a page of the board sends with everything once somebody has logged in. */
export interface Visit {
  readonly session: Session
  readonly cookie: string
  /** Of the cookie, such as `HttpOnly`. */
  readonly attributes: readonly string[]
}

export async function logIn(
  url: string,
  password: string,
  headers: Record<string, string> = {},
): Promise<Response> {
  return await fetch(`${url}/api/login`, {
    method: 'POST',
    body: JSON.stringify({ password }),
    headers: { 'content-type': 'application/json', ...headers },
  })
}

export async function visit(url: string, password: string = OPERATOR): Promise<Visit> {
  const answer = await logIn(url, password)
  const [cookie = '', ...attributes] = (answer.headers.get('set-cookie') ?? '').split('; ')
  return { session: (await answer.json()) as Session, cookie, attributes }
}

export function post(url: string, headers: Record<string, string>, body?: unknown): Promise<Response> {
  const content =
    body === undefined ? {} : { body: JSON.stringify(body), type: { 'content-type': 'application/json' } }
  return fetch(url, { method: 'POST', ...content, headers: { ...content.type, ...headers } })
}

/** Sends a path as it is, where `fetch` would tidy it up. */
export async function rawGet(
  url: string,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: string }> {
  const { hostname, port } = new URL(url)
  return await new Promise((resolve, reject) => {
    const request = httpRequest({ host: hostname, port, path, headers }, response => {
      text(response).then(body => resolve({ status: response.statusCode ?? 0, body }), reject)
    })
    request.on('error', reject).end()
  })
}
