import type { Task } from '@agirunner/contracts'

/** A secret's exact bytes, wrapped so that neither logs nor JSON can show them. */
export class Secret {
  readonly #value: Buffer

  constructor(value: Buffer | string) {
    this.#value = Buffer.from(value)
  }

  /** The bytes; call it only where they are used. */
  reveal(): Buffer {
    return this.#value
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[secret]'
  }
}

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
}
