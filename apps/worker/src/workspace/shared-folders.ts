import type { Delivery, Slot } from './plan.js'

/** What the kernel must do with a task's layer; see ARCHITECTURE.md for why each. */
export const OVERLAY_OPTIONS = 'redirect_dir=on,metacopy=off,index=off'

/** The engine sees the worker's folders: what is there is there for both. */
export function sharedFolders(
  slot: Slot,
  repo: Delivery['mounts']['repo'],
  release: Delivery['release'] = () => Promise.resolve(),
): Delivery {
  const bind = (source: string) => ({ type: 'bind', source }) as const
  const { context, output, home, log, gate } = slot
  return {
    mounts: {
      repo,
      context: bind(context),
      output: bind(output),
      home: bind(home),
      log: bind(log),
      gate: bind(gate),
    },
    shared: true,
    send: () => Promise.resolve(),
    sendGate: () => Promise.resolve(),
    collect: () => Promise.resolve(),
    collectMarks: () => Promise.resolve(),
    release,
  }
}
