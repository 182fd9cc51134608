import type { Producer } from '@agirunner/producer'
import type { Io } from './output.js'
import type { Settings } from './settings.js'

export interface Option {
  readonly type: 'string' | 'boolean'
  readonly short?: string
  /** What the value is called in the help. */
  readonly value?: string
  readonly help: string
}

/** What a command gets. */
export interface Call {
  readonly positionals: readonly string[]
  readonly settings: Settings
  readonly io: Io
  readonly flag: (name: string) => boolean
  readonly option: (name: string) => string | undefined
  /** The one id of commands that take one. */
  readonly id: string
  /** Makes a producer on first use; it is closed when the command ends. */
  readonly producer: () => Producer
}

export interface Command {
  readonly usage: string
  readonly summary: string
  /** More about it, for its own help. */
  readonly details?: string
  readonly options: Readonly<Record<string, Option>>
  /** How many positional arguments it takes, and what they are called. */
  readonly takes: { readonly min: number; readonly max: number; readonly name: string }
  /** @returns the exit code */
  run(call: Call): Promise<number>
}

export const JSON_OPTION: Option = { type: 'boolean', help: 'print JSON for programs' }
export const FOLLOW_OPTION: Option = { type: 'boolean', short: 'f', help: 'go on until the task has ended' }
export const FROM_OPTION: Option = { type: 'string', value: 'SEQ', help: 'start at this seq (default 1)' }
export const ONE_ID = { min: 1, max: 1, name: 'the ID of a task' } as const
