import { type FailureCode, parseImageReference, TaskFailure } from '@agirunner/contracts'
import { asEngineError, toFailure } from './errors.js'

interface Meaning {
  readonly said: RegExp
  readonly code: FailureCode
  readonly means: string
  readonly hint?: string
}

/**
 * What a registry says, in an engine's words; the first that fits counts. The engine puts most answers into one status,
 * so only the words tell them apart: every one of them is tested against a registry that says it.
 */
const MEANINGS: readonly Meaning[] = [
  {
    said: /error (parsing HTTP|unmarshalling)|invalid character/i,
    code: 'image.pull_failed',
    means: 'what answers there is no registry, or broken',
  },
  {
    said: /toomanyrequests|rate limit/i,
    code: 'image.pull_failed',
    means: 'the registry has had too many requests',
    hint: 'wait, or give environment.registryCredentials: registries give more to who says a name',
  },
  {
    said: /unauthorized|authentication required|no basic auth credentials|incorrect username or password/i,
    code: 'image.auth_failed',
    means: 'the registry asks for other credentials',
  },
  {
    said: /denied|forbidden|insufficient_scope|may require/i,
    code: 'image.auth_failed',
    means: 'the registry does not give it',
  },
  {
    said: /no matching manifest|cannot be used on this platform|does not match the specified platform/i,
    code: 'image.incompatible',
    means: 'it is not made for the platform of this machine',
  },
  {
    said: /media ?type|manifest invalid|unsupported schema|invalid rootfs/i,
    code: 'image.incompatible',
    means: 'it is no image of a container',
  },
  {
    said: /manifest (for \S+ )?(unknown|not found)|name unknown|repository (name not known|\S+ not found)|does not exist/i,
    code: 'image.not_found',
    means: 'it is neither here nor in its registry',
  },
]

/** What dockerode puts before the engine's words. */
const CLIENTS_OWN = /^\(HTTP code \d+\) [^-]*- /

/** What a failed pull of `reference` stands for. `withCredentials`: whether the registry was told any. */
export function pullFailure(error: unknown, reference: string, withCredentials: boolean): TaskFailure {
  if (error instanceof TaskFailure) return error
  const { message, json, statusCode } = asEngineError(error)
  if (statusCode === undefined) return toFailure(error, 'image.pull_failed', `pull image "${reference}"`)
  const text = (json?.message ?? message).replace(CLIENTS_OWN, '').trim()
  const { code, means, hint } = meaningOf(text, statusCode, !withCredentials && isDefaultRegistry(reference))
  return new TaskFailure(code, `image "${reference}": ${means}; ${text}`, hint === undefined ? {} : { hint })
}

/**
 * The default registry refuses who says no name whatever is not public, and what is not there at all: of the two, a
 * mistyped name is the more likely. Others refuse what is there.
 */
function meaningOf(text: string, status: number, refusesWhatIsNotThere: boolean): Omit<Meaning, 'said'> {
  const known = MEANINGS.find(({ said }) => said.test(text))
  if (known?.code === 'image.auth_failed' && refusesWhatIsNotThere)
    return {
      code: 'image.not_found',
      means: 'the registry has no such image, or it is private',
      hint: 'check environment.image; a private one needs environment.registryCredentials',
    }
  if (known) return known
  if (status === 400) return { code: 'image.not_found', means: 'this is no valid image reference' }
  if (status === 404) return { code: 'image.not_found', means: 'it is neither here nor in its registry' }
  return { code: 'image.pull_failed', means: 'it could not be pulled' }
}

function isDefaultRegistry(reference: string): boolean {
  try {
    return parseImageReference(reference).registry === 'docker.io'
  } catch {
    return false
  }
}
