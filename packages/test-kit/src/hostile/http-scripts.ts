import { setTimeout as pause } from 'node:timers/promises'
import { type Answer, pour, type Script } from './script.js'

/** How late a late answer comes, and how long a dripping one takes at least, in milliseconds. */
const LATE_MS = 1500
const DRIPS = 15
const TRICKLE_MS = 50

const status =
  (code: number): Answer =>
  ({ response }) =>
    response.writeHead(code).end('<h1>no</h1>')

const redirect =
  (to: string): Answer =>
  ({ response }) =>
    response.writeHead(302, { location: to }).end()

const html: Answer = ({ response }) =>
  response.writeHead(200, { 'content-type': 'text/html' }).end('<html><body>Sign in</body></html>')

/** Nothing at all, not even a status. */
const silent: Answer = () => undefined

const late: Answer = async ({ response, honest }) => {
  await pause(LATE_MS)
  response.end(honest)
}

const stalled: Answer = ({ response, honest }) => response.write(honest.subarray(0, honest.length / 2))

/** In small pieces, none of them late. */
const dripping: Answer = async ({ response, honest }) => {
  const size = Math.ceil(honest.length / DRIPS)
  for (let at = 0; at < honest.length && !response.destroyed; at += size) {
    response.write(honest.subarray(at, at + size))
    await pause(LATE_MS / DRIPS)
  }
  response.end()
}

/** One pkt-line that is never whole, a byte at a time. */
const trickle: Answer = async ({ response }) => {
  response.write('fff0')
  while (!response.destroyed) {
    response.write('x')
    await pause(TRICKLE_MS)
  }
}

const reset: Answer = ({ request, response, honest }) =>
  response.write(honest.subarray(0, honest.length / 2), () => request.socket.resetAndDestroy())

function* forever(piece: Uint8Array): Generator<Uint8Array> {
  for (;;) yield piece
}

/** What is wrong with the HTTP or with the line, before git's protocol says anything. */
export const HTTP_SCRIPTS = {
  honest: {},
  'status-401': { discovery: status(401) },
  'status-403': { discovery: status(403) },
  'status-404': { discovery: status(404) },
  'status-500': { discovery: status(500) },
  'status-503': { discovery: status(503) },
  'status-401-at-fetch': { fetch: status(401) },
  'status-500-at-fetch': { fetch: status(500) },
  'redirect-to-loopback': { discovery: redirect('http://127.0.0.1:1/x.git/info/refs') },
  'redirect-to-metadata': { discovery: redirect('http://169.254.169.254/latest/meta-data/info/refs') },
  'redirect-to-metadata-in-ipv6': { discovery: redirect('http://[::ffff:a9fe:a9fe]/x.git/info/refs') },
  'redirect-to-file': { discovery: redirect('file:///etc/passwd') },
  'redirect-to-ssh': { discovery: redirect('ssh://127.0.0.1/x.git') },
  'redirect-to-nowhere': { discovery: redirect('http://[') },
  'redirect-without-end': {
    discovery: ({ request, response }) => response.writeHead(302, { location: `${request.url}&again` }).end(),
  },
  'redirect-then-401': {
    discovery: ({ request, response, honest }) => {
      if (!request.url?.endsWith('&moved')) {
        return response.writeHead(302, { location: `${request.url}&moved` }).end()
      }
      return request.headers.authorization === undefined
        ? response.writeHead(401).end()
        : response.end(honest)
    },
  },
  'redirect-of-a-fetch': { fetch: redirect('/honest.git/git-upload-pack') },
  'html-for-refs': { discovery: html },
  'html-for-a-listing': { listing: html },
  'html-for-a-pack': { fetch: html },
  'nothing-for-refs': { discovery: ({ response }) => response.end() },
  'nothing-for-a-pack': { fetch: ({ response }) => response.end() },
  'late-refs': { discovery: late },
  'late-pack': { fetch: late },
  'stalled-refs': { discovery: stalled },
  'stalled-pack': { fetch: stalled },
  'dripping-pack': { fetch: dripping },
  'trickle-of-refs': { discovery: trickle },
  'trickle-of-a-pack': { fetch: trickle },
  silent: { discovery: silent },
  'silent-at-fetch': { fetch: silent },
  'reset-in-refs': { discovery: reset },
  'reset-in-a-pack': { fetch: reset },
  'endless-refs': { discovery: ({ response }) => pour(response, forever(Buffer.alloc(65_536, '0'))) },
  'oversize-headers': {
    discovery: ({ response }) => response.writeHead(200, { 'x-filler': 'x'.repeat(100_000) }).end(),
  },
} satisfies Record<string, Script>
