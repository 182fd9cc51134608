import { constants, open, realpath } from 'node:fs/promises'
import { sep } from 'node:path'
import { type SecretRef, TaskFailure } from '@agirunner/contracts'
import { Secret } from '../support/secret.js'

const MAX_SECRET_BYTES = 64 * 1024

/** What the operator lets tasks refer to. */
export interface SecretPolicy {
  readonly secretNames: ReadonlySet<string>
  readonly secretRoot: string | null
  readonly readSecret: (name: string) => string | undefined
}

/**
 * Reads the secret that a task refers to.
 *
 * @throws TaskFailure `spec.forbidden` for what the operator does not allow, `secret.unavailable` for what is absent
 */
export async function resolveSecret(reference: SecretRef, policy: SecretPolicy): Promise<Secret> {
  const { secretRef } = reference
  if (secretRef.startsWith('env:')) return fromEnvironment(secretRef.slice(4), policy)
  return await fromFile(secretRef.slice('file:'.length), policy)
}

function fromEnvironment(name: string, policy: SecretPolicy): Secret {
  if (!policy.secretNames.has(name)) {
    throw new TaskFailure('spec.forbidden', `secretRef "env:${name}" is not one that tasks may use`, {
      hint: 'have the operator add the name to AGIRUNNER_SECRET_ENV',
    })
  }
  const value = policy.readSecret(name)
  if (value === undefined)
    throw new TaskFailure('secret.unavailable', `secret "env:${name}" is not set on this worker`)
  return new Secret(value)
}

async function fromFile(path: string, policy: SecretPolicy): Promise<Secret> {
  const root = policy.secretRoot === null ? null : await realpath(policy.secretRoot).catch(() => null)
  const real = await realpath(path).catch(() => null)
  const inside =
    root !== null &&
    (real ?? path).startsWith(root.endsWith(sep) ? root : root + sep) &&
    !path.split('/').includes('..')
  if (!inside) {
    throw new TaskFailure(
      'spec.forbidden',
      `secretRef "file:${path}" is not below the operator's secret folder`,
      {
        hint: 'have the operator put it below AGIRUNNER_SECRET_ROOT',
      },
    )
  }
  if (real === null) throw new TaskFailure('secret.unavailable', `secret "file:${path}" is not there`)
  const file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const { size } = await file.stat()
    if (size > MAX_SECRET_BYTES)
      throw new TaskFailure('secret.unavailable', `secret "file:${path}" is larger than 64 KiB`)
    return new Secret(await file.readFile())
  } finally {
    await file.close()
  }
}
