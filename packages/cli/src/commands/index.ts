import type { Command } from '../command.js'

interface Entry {
  readonly summary: string
  /** Loaded only when it is called: `schema` should not have to wait for a container client. */
  load(): Promise<Command>
}

export const COMMANDS: Readonly<Record<string, Entry>> = {
  up: { summary: 'start everything on this machine', load: async () => (await import('./up.js')).up },
  run: {
    summary: 'enqueue a task, follow its log, wait for its result',
    load: async () => (await import('./run.js')).run,
  },
  enqueue: { summary: 'put tasks into the queue', load: async () => (await import('./enqueue.js')).enqueue },
  result: { summary: 'print the result of a task', load: async () => (await import('./result.js')).result },
  logs: { summary: 'print the log of a task', load: async () => (await import('./logs.js')).logs },
  events: {
    summary: 'print what happened to a task',
    load: async () => (await import('./events.js')).events,
  },
  cancel: {
    summary: 'ask for a task to be canceled',
    load: async () => (await import('./cancel.js')).cancel,
  },
  artifacts: {
    summary: 'list, print or save what a task left',
    load: async () => (await import('./artifacts.js')).artifacts,
  },
  patch: { summary: 'print the patch of a task', load: async () => (await import('./patch.js')).patch },
  ps: {
    summary: "list the runtime's containers on this machine",
    load: async () => (await import('./ps.js')).ps,
  },
  top: {
    summary: 'show what the containers of all workers use',
    load: async () => (await import('./top.js')).top,
  },
  exec: {
    summary: "run a command in a task's container",
    load: async () => (await import('./exec.js')).exec,
  },
  keep: {
    summary: "keep a task's container beyond the task's end",
    load: async () => (await import('./keep.js')).keep,
  },
  cache: {
    summary: 'show and clear what is kept of repositories',
    load: async () => (await import('./cache.js')).cache,
  },
  doctor: {
    summary: 'check what the runtime needs, and say how to fix it',
    load: async () => (await import('./doctor.js')).doctor,
  },
  schema: { summary: 'print a JSON Schema', load: async () => (await import('./schema.js')).schema },
}
