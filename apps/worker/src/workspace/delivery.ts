import type { ContainerEngine } from '../engine/engine.js'
import { labelsOf, type Owner } from '../engine/labels.js'
import { ArchiveDelivery } from './archive/archive-delivery.js'
import { isLive, mountLate } from './late-overlay.js'
import type { Delivery, RepositoryLayers, Slot } from './plan.js'
import { OVERLAY_OPTIONS, sharedFolders } from './shared-folders.js'

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
