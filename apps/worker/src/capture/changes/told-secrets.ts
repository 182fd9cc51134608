import { Redactor } from '../../support/redactor.js'
import { Secret } from '../../support/secret.js'

/** A secret as a child process is told it: it goes through a pipe, and into no message. */
export interface ToldSecret {
  readonly name: string
  readonly base64: string
}

/** Tells whether bytes hold one of these secrets, in any form. */
export function secretSearch(secrets: readonly ToldSecret[]): (bytes: Buffer) => boolean {
  if (secrets.length === 0) return () => false
  const told = secrets.map(({ name, base64 }) => ({ name, value: new Secret(Buffer.from(base64, 'base64')) }))
  const redactor = Redactor.of(told)
  return bytes => redactor.finds().push(bytes)
}
