import type { ContainerEngine } from '../engine/engine.js'
import { adoptDisk } from './disk/task-disks.js'
import { isLive, lateDelivery } from './late-overlay.js'
import type { MountSource, Slot, WorkspacePlan } from './plan.js'
import { sharedFolders } from './shared-folders.js'
import { removeSlot } from './slots.js'

/** A plan as another worker of the same machine and data folder can go on with it, in JSON. */
export interface SavedPlan extends Omit<WorkspacePlan, 'slot' | 'delivery' | 'release'> {
  readonly slot: Omit<Slot, 'disk'> & {
    readonly disk: { readonly folder: string; readonly before: number } | null
  }
  /** What the container sees as its repository. */
  readonly repo: MountSource
}

/** @returns null for a workspace that only its own worker can bring back from the engine */
export function savePlan(plan: WorkspacePlan): SavedPlan | null {
  const { slot, delivery, base, layers, compareWith, readOnly, notes, leftOut, placed, owner } = plan
  if (!delivery.shared) return null
  const disk = slot.disk && { folder: slot.disk.folder, before: slot.disk.before }
  const repo = delivery.mounts.repo
  return {
    slot: { ...slot, disk },
    repo,
    base,
    layers,
    compareWith,
    readOnly,
    notes,
    leftOut,
    placed,
    owner,
  }
}

/**
 * The plan of a container that runs. Its pin of the snapshot needs no care: it holds for as long as the slot is there.
 */
export function restorePlan({ repo, ...saved }: SavedPlan, engine: ContainerEngine): WorkspacePlan {
  const slot: Slot = { ...saved.slot, disk: saved.slot.disk && adoptDisk(saved.slot.disk) }
  const delivery = isLive(slot)
    ? lateDelivery(slot)
    : sharedFolders(slot, repo, async () => {
        if (repo.type === 'volume') await engine.removeVolume(repo.source)
      })
  const release = async () => {
    await delivery.release()
    await removeSlot(slot)
  }
  return { ...saved, slot, delivery, release }
}
