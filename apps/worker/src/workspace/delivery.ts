import type { ContainerEngine } from '../engine/engine.js'
import { labelsOf, type Owner } from '../engine/labels.js'
import { ArchiveDelivery } from './archive/archive-delivery.js'
import { isLive, mountLate } from './late-overlay.js'
import type { Delivery, RepositoryLayers, Slot } from './plan.js'

/** What the kernel must do with a task's layer; see ARCHITECTURE.md for why each. */
export const OVERLAY_OPTIONS = 'redirect_dir=on,metacopy=off,index=off'

/** The way of a workspace to the engine and back. */
export async function makeDelivery(
  engine: ContainerEngine,
  worker: Owner,
  slot: Slot,
  layers: RepositoryLayers,
  readOnly = false,
): Promise<Delivery> {
  if (layers.strategy === 'archive') return new ArchiveDelivery({ engine, worker, slot, layers })
  if (layers.strategy === 'copy') return sharedFolders(slot, { type: 'bind', source: layers.copy })
  if (layers.strategy === 'late_overlay') {
    if (!isLive(slot)) throw new Error('an overlay is mounted late only on a disk of the slot’s own')
    return await mountLate(slot, layers, readOnly)
  }
  const name = `agirunner-${slot.id}`
  const { lower, upper, work } = layers
  const release = () => engine.removeVolume(name)
  const o = `lowerdir=${lower},upperdir=${upper},workdir=${work},${OVERLAY_OPTIONS}`
  const options = { type: 'overlay', device: 'overlay', o }
  try {
    await engine.createVolume({ name, labels: labelsOf(worker, 'task', slot.id), options })
  } catch (error) {
    // A call that came back too late may have made it.
    await release().catch(() => undefined)
    throw error
  }
  return sharedFolders(slot, { type: 'volume', source: name }, release)
}

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
    workspace: null,
    shared: true,
    send: () => Promise.resolve(),
    sendGate: () => Promise.resolve(),
    collect: () => Promise.resolve(),
    collectMarks: () => Promise.resolve(),
    release,
  }
}
