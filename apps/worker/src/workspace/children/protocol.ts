import type { FailureCode } from '@agirunner/contracts'

/** What the worker asks of a child: one job at a time. */
export interface JobMessage {
  readonly id: number
  readonly name: string
  readonly input: unknown
}

/** A TaskFailure as it crosses the process border; the parent adds the phase. */
export interface FailedMessage {
  readonly code: FailureCode
  readonly message: string
  readonly hint: string
}

/** What a child answers: any number of `progress`, then one of the others. `crashed` is an error nobody foresaw. */
export type AnswerMessage =
  | { readonly id: number; readonly type: 'progress'; readonly data: Record<string, unknown> }
  | { readonly id: number; readonly type: 'done'; readonly result: unknown }
  | { readonly id: number; readonly type: 'failed'; readonly failure: FailedMessage }
  | { readonly id: number; readonly type: 'crashed'; readonly message: string }
