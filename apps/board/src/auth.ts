import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'

/** Who an operator logs in as. */
export const USER = 'operator'

/** 144 random bits, in letters that survive being copied out of a terminal. */
export function generatePassword(): string {
  return randomBytes(18).toString('base64url')
}

/**
 * Makes a check of `Authorization` headers (HTTP Basic, RFC 7617).
 *
 * @returns whether a header names the operator and the password; it takes as long for a near miss as for any other
 */
export function basicAuth(password: string): (header: string | undefined) => boolean {
  const expected = digest(`${USER}:${password}`)
  return header => {
    const encoded = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(header ?? '')?.[1] ?? ''
    return timingSafeEqual(digest(Buffer.from(encoded, 'base64')), expected)
  }
}

/** Digests are of one length, which `timingSafeEqual` needs, whatever was sent. */
function digest(value: string | Uint8Array): Buffer {
  return createHash('sha256').update(value).digest()
}
