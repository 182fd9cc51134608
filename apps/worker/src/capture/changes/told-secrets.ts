import { Redactor } from '../../support/redactor.js'
import { Secret } from '../../support/secret.js'

/** A secret as a child process is told it: it goes through a pipe, and into no message. */
export interface ToldSecret {
  readonly name: string
  readonly base64: string
}

/** Knows these secrets; null where there are none. */
export function toldRedactor(secrets: readonly ToldSecret[]): Redactor | null {
  if (secrets.length === 0) return null
  return Redactor.of(
    secrets.map(({ name, base64 }) => ({ name, value: new Secret(Buffer.from(base64, 'base64')) })),
  )
}

/** Tells whether bytes hold one of these secrets, in any form. */
export function secretSearch(secrets: readonly ToldSecret[]): (bytes: Buffer) => boolean {
  const redactor = toldRedactor(secrets)
  return bytes => redactor?.finds().push(bytes) ?? false
}
