import type { Denied } from './denials.js'
import type { EgressRules } from './policy.js'

/** A network whose way out is wanted. */
export interface ListenInput {
  readonly network: string
  readonly gateway: string
  readonly subnet: string
  /** 0 for the system's choice. */
  readonly port: number
}

/** What the worker asks of the proxy's process. */
export type ProxyCall =
  | ({ readonly call: 'listen' } & ListenInput)
  | { readonly call: 'bind'; readonly network: string; readonly hosts: readonly string[] }
  | { readonly call: 'unbind'; readonly network: string }
  | { readonly call: 'denied'; readonly network: string }
  | { readonly call: 'rules'; readonly rules: EgressRules }

export interface ProxyRequest {
  readonly id: number
  readonly body: ProxyCall
}

/** `listen` answers a port, `denied` a list, the others null. */
export type ProxyAnswer = number | readonly Denied[] | null

export type ProxyMessage =
  | { readonly type: 'done'; readonly id: number; readonly answer: ProxyAnswer }
  | { readonly type: 'failed'; readonly id: number; readonly message: string }
  | { readonly type: 'denied'; readonly network: string; readonly host: string; readonly port: number }
