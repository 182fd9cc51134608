import type { Task } from '@agirunner/contracts'
import type { Redactor } from '../support/redactor.js'
import type { Secret } from '../support/secret.js'

/** A parsed task that this worker may run: one attempt, fenced, its secrets at hand. */
export interface AcceptedTask {
  readonly task: Task
  readonly attempt: number
  readonly fence: number
  /** RFC 3339; when the platform enqueued it. */
  readonly createdAt: string
  /** RFC 3339; when this attempt began. */
  readonly startedAt: string
  /** For the repository's host; null when the source names none. */
  readonly credentials: { readonly username: string; readonly password: Secret } | null
  /** For the image's registry; null when the task names none. */
  readonly registryCredentials: { readonly username: string; readonly password: Secret } | null
  /** By name, as in `environment.secrets`. */
  readonly secrets: ReadonlyMap<string, { readonly value: Secret; readonly as: 'file' | 'env' | 'both' }>
  /** Knows all of these secrets: what leaves the worker goes by it. */
  readonly redactor: Redactor
}
