import { Shell } from '../support/shell.js'
import { unmountDisk } from './disk/disk-image.js'
import type { Delivery, OverlayLayers, Slot } from './plan.js'
import { OVERLAY_OPTIONS, sharedFolders } from './shared-folders.js'

/** Of this process: it is started with the first mount. */
const shell = new Shell()

/** Ends what mounts; a later mount starts it again. */
export function closeMounter(): void {
  shell.close()
}

/**
 * Mounts a task's repository where a container sees it that may have been running for long: on a folder of the slot's disk
 * that the container has, with what is mounted on it later.
 *
 * @throws Error with what `mount` said
 */
export async function mountLate(
  slot: Slot & { readonly live: string },
  layers: OverlayLayers,
  readOnly: boolean,
): Promise<Delivery> {
  const { lower, upper, work } = layers
  const options = `${readOnly ? 'ro' : 'rw'},nosuid,nodev,lowerdir=${lower},upperdir=${upper},workdir=${work},${OVERLAY_OPTIONS}`
  await shell.run('mount', ['-i', '-n', '-t', 'overlay', '-o', options, 'overlay', slot.live])
  return lateDelivery(slot)
}

/** The way of a repository that is mounted. */
export function lateDelivery(slot: Slot & { readonly live: string }): Delivery {
  const repo = { type: 'bind', source: slot.live, live: true } as const
  return sharedFolders(slot, repo, () => unmountDisk(slot.live))
}

export function isLive(slot: Slot): slot is Slot & { readonly live: string } {
  return slot.live !== null
}
