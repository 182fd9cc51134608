import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Role } from './api.js'

/** Who an operator logs in as. */
export const USER = 'operator'

/** 144 random bits, in letters that survive being copied out of a terminal. */
export function generatePassword(): string {
  return randomBytes(18).toString('base64url')
}

export interface Passwords {
  readonly operator: string
  /** Of somebody who may read and change nothing; null when there is no such login. */
  readonly viewer: string | null
}

/** Who a password belongs to, null for nobody; it takes as long for a near miss as for any other. */
export function roleOf(password: string, { operator, viewer }: Passwords): Role | null {
  const isOperator = isEqual(password, operator)
  const isViewer = isEqual(password, viewer ?? operator)
  if (isOperator) return 'operator'
  return isViewer ? 'viewer' : null
}

/**
 * Who an `Authorization` header speaks for (HTTP Basic, RFC 7617; the user is the role's name), null for nobody.
 *
 * @example basicRole('Basic b3BlcmF0b3I6…', passwords) // 'operator'
 */
export function basicRole(header: string | undefined, passwords: Passwords): Role | null {
  const encoded = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(header ?? '')?.[1] ?? ''
  const [user = '', ...rest] = Buffer.from(encoded, 'base64').toString().split(':')
  const role = roleOf(rest.join(':'), passwords)
  return role === user ? role : null
}

/** Compares in a time that says nothing of where two texts differ. */
export function isEqual(one: string, other: string): boolean {
  // Digests are of one length, which `timingSafeEqual` needs, whatever was sent.
  return timingSafeEqual(digestOf(one), digestOf(other))
}

function digestOf(value: string): Buffer {
  return createHash('sha256').update(value).digest()
}
