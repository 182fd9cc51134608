import { MOUNT, mountQuickly } from '../support/libc.js'
import { unmountDisk } from './disk/disk-image.js'
import type { Delivery, OverlayLayers, Slot } from './plan.js'
import { OVERLAY_OPTIONS, sharedFolders } from './shared-folders.js'

/**
 * Mounts a task's repository where a container sees it that may have been running for long: on a folder of the slot's disk
 * that the container has, with what is mounted on it later.
 *
 * @throws Error with the errno's name as its `code`
 */
export async function mountLate(
  slot: Slot & { readonly live: string },
  layers: OverlayLayers,
  readOnly: boolean,
): Promise<Delivery> {
  const { lower, upper, work } = layers
  await mountQuickly('overlay', slot.live, {
    type: 'overlay',
    flags: MOUNT.noSuid | MOUNT.noDev | (readOnly ? MOUNT.readOnly : 0),
    data: `lowerdir=${lower},upperdir=${upper},workdir=${work},${OVERLAY_OPTIONS}`,
  })
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
