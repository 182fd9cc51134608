/** What the first bytes of a connection say of where it is to go. */
export type Hello =
  /** Not told yet: more bytes are needed. */
  | { readonly type: 'partial' }
  /** Something else than TLS. */
  | { readonly type: 'other' }
  /** TLS, with the names that it asks for; none where it has no SNI. */
  | { readonly type: 'tls'; readonly names: readonly string[] }
  /** It begins as TLS and is none. */
  | { readonly type: 'broken' }

const HANDSHAKE = 22
const CLIENT_HELLO = 1
const SERVER_NAME = 0
const HOST_NAME = 0
/** A record holds 2^14 bytes at most. */
const MAX_RECORD = 16_384
/** Clients use one or two; who sends a byte in each wants our time. */
const MAX_RECORDS = 64
/** Far above what clients send, key shares of post-quantum schemes included. */
export const MAX_HELLO = 65_536

/**
 * Reads the server names of a TLS ClientHello without decrypting anything (RFC 8446 4.1.2, RFC 6066 3), however it is cut
 * into records.
 *
 * @param bytes everything that the client has sent so far
 */
export function readHello(bytes: Buffer): Hello {
  if (bytes.length === 0) return { type: 'partial' }
  if (bytes[0] !== HANDSHAKE) return { type: 'other' }
  const handshake = joinRecords(bytes)
  if (handshake === 'broken') return { type: 'broken' }
  if (handshake.length < 4) return orBroken(bytes)
  const length = handshake.readUIntBE(1, 3)
  if (handshake[0] !== CLIENT_HELLO || length > MAX_HELLO) return { type: 'broken' }
  if (handshake.length < 4 + length) return orBroken(bytes)
  try {
    return { type: 'tls', names: namesOf(new Reader(handshake.subarray(4, 4 + length))) }
  } catch {
    return { type: 'broken' }
  }
}

function orBroken(bytes: Buffer): Hello {
  return { type: bytes.length > MAX_HELLO ? 'broken' : 'partial' }
}

/** The handshake bytes of the records so far; the last one may be cut. */
function joinRecords(bytes: Buffer): Buffer | 'broken' {
  const parts: Buffer[] = []
  let have = 0
  for (let at = 0; at + 5 <= bytes.length; ) {
    const length = bytes.readUInt16BE(at + 3)
    // Alerts or data between the parts of a ClientHello are not allowed, nor are empty records.
    if (bytes[at] !== HANDSHAKE || bytes[at + 1] !== 3 || length === 0 || length > MAX_RECORD) return 'broken'
    if (parts.length === MAX_RECORDS) return 'broken'
    const part = bytes.subarray(at + 5, at + 5 + length)
    parts.push(part)
    have += part.length
    at += 5 + length
    if (have >= 4 && have >= 4 + lengthOf(parts)) break
  }
  return Buffer.concat(parts)
}

/** Of the handshake message that these begin. */
function lengthOf(parts: readonly Buffer[]): number {
  return Buffer.concat(parts.slice(0, 4), 4).readUIntBE(1, 3)
}

/** Takes a buffer apart from its beginning; throws RangeError at its end. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  number(size: number): number {
    const value = this.#bytes.readUIntBE(this.#at, size)
    this.#at += size
    return value
  }

  take(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw new RangeError('it ends too early')
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }

  /** A part whose length, of `size` bytes, comes before it. */
  vector(size: number): Buffer {
    return this.take(this.number(size))
  }
}

function namesOf(hello: Reader): string[] {
  hello.take(2 + 32)
  hello.vector(1)
  hello.vector(2)
  hello.vector(1)
  if (hello.atEnd) return []
  const extensions = new Reader(hello.vector(2))
  const names: string[] = []
  while (!extensions.atEnd) {
    const type = extensions.number(2)
    const body = extensions.vector(2)
    if (type === SERVER_NAME) names.push(...serverNames(new Reader(new Reader(body).vector(2))))
  }
  return names
}

function serverNames(list: Reader): string[] {
  const names: string[] = []
  while (!list.atEnd) {
    const type = list.number(1)
    const name = list.vector(2)
    if (type === HOST_NAME) names.push(name.toString('latin1'))
  }
  return names
}
