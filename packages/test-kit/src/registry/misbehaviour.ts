import type { ServerResponse } from 'node:http'

/** What a registry would answer if it were honest. */
export interface HonestAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

type Misbehaviour = (response: ServerResponse, honest: HonestAnswer) => void

/** One byte so often; a client that waits for a whole body waits for hours, and hears of every byte. In milliseconds. */
const DRIP_MS = 50

/** How a registry can go wrong, by what it does in the place of an answer. */
export const MISBEHAVIOURS = {
  unauthorized: refuse(401, 'UNAUTHORIZED', 'authentication required'),
  denied: refuse(403, 'DENIED', 'requested access to the resource is denied'),
  'manifest-unknown': refuse(404, 'MANIFEST_UNKNOWN', 'manifest unknown'),
  'name-unknown': refuse(404, 'NAME_UNKNOWN', 'repository name not known to registry'),
  'rate-limited': refuse(429, 'TOOMANYREQUESTS', 'You have reached your pull rate limit'),
  broken: refuse(500, 'UNKNOWN', 'unknown error'),
  unavailable: (response: ServerResponse) => void response.writeHead(503).end('no healthy upstream'),
  html: (response: ServerResponse) => page(response, 200, 'Welcome to the captive portal'),
  'html-not-found': (response: ServerResponse) => page(response, 404, '404 Not Found'),
  reset: (response: ServerResponse) => void response.destroy(),
  mute: () => undefined,
  stalled: (response: ServerResponse, { status, headers, body }: HonestAnswer) => {
    response.writeHead(status, headers)
    response.write(body.subarray(0, body.length / 2))
  },
  dripping: (response: ServerResponse, { status, headers, body }: HonestAnswer) => {
    response.writeHead(status, headers)
    let sent = 0
    const timer = setInterval(() => {
      response.write(body.subarray(sent, sent + 1))
      sent += 1
      if (sent === body.length) response.end()
    }, DRIP_MS)
    response.on('close', () => clearInterval(timer))
  },
  truncated: (response: ServerResponse, { status, headers, body }: HonestAnswer) => {
    response.writeHead(status, headers)
    response.write(body.subarray(0, body.length / 2), () => response.destroy())
  },
  'wrong-content': (response: ServerResponse, { status, headers, body }: HonestAnswer) => {
    const other = Buffer.from(body)
    // In the middle of a manifest is a digit of a digest as likely as not: a blank at its end keeps it JSON.
    if (other[0] === 0x7b) other.writeUInt8(0x20, other.length - 1)
    else other.writeUInt8((other.at(-1) ?? 0) ^ 1, other.length - 1)
    response.writeHead(status, headers).end(other)
  },
} as const satisfies Record<string, Misbehaviour>

export type MisbehaviourKind = keyof typeof MISBEHAVIOURS

function refuse(status: number, code: string, message: string): Misbehaviour {
  const body = JSON.stringify({ errors: [{ code, message, detail: null }] })
  return response => void response.writeHead(status, { 'content-type': 'application/json' }).end(body)
}

function page(response: ServerResponse, status: number, title: string): void {
  const html = `<!DOCTYPE html><html><head><title>${title}</title></head><body>${title}</body></html>`
  response.writeHead(status, { 'content-type': 'text/html' }).end(html)
}
