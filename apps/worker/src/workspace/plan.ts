import type { Skipped } from '@agirunner/contracts'
import type { Releasable } from '../support/lifecycle.js'
import type { TaskDisk } from './disk/task-disks.js'

export { STRATEGIES, type Strategy } from '../support/strategy.js'

/** The folders of a workspace that a container sees. */
export const PARTS = ['repo', 'context', 'output', 'home', 'log', 'gate'] as const
export type Part = (typeof PARTS)[number]

export interface MountSource {
  readonly type: 'volume' | 'bind'
  /** The name of a volume, or a folder of the host. */
  readonly source: string
  /** Whether the container sees what is mounted there later on; of binds alone. */
  readonly live?: boolean
}

/**
 * The folders of one container on the host, below `$AGIRUNNER_DATA/slots/<id>`. Used once, then deleted. `owner.json` in it names the
 * worker, so that a reaper can tell whose it is.
 */
export interface Slot {
  readonly id: string
  readonly root: string
  /** Becomes /workspace/context, read-only. */
  readonly context: string
  /** Becomes /workspace/output. */
  readonly output: string
  /** Becomes the task's HOME. */
  readonly home: string
  /** Holds the log files that the gate writes: `o`, `e`, and `s` with the marks of steps. */
  readonly log: string
  /** Holds the gate's script; read-only in the container. */
  readonly gate: string
  /** Becomes /workspace/repo, with what the worker mounts on it at any time; null where it mounts nothing. */
  readonly live: string | null
  /** A folder whose files are in memory alone, with what is secret and the gate's folder in it; null where nothing is. */
  readonly memory: string | null
  /** What the task may use of the disk, as a file system of its own that all it writes lies on; null where there is none. */
  readonly disk: TaskDisk | null
}

/** What the workspace's repository started from. */
export interface Base {
  readonly url: string | null
  /** The full name of the ref that was checked out, such as `refs/heads/main`; null when a commit was asked for. */
  readonly ref: string | null
  /** Null for an empty repository. */
  readonly commit: string | null
}

/** An overlay that the worker mounts into the slot, or a volume that the engine mounts. */
export interface OverlayLayers {
  readonly strategy: 'late_overlay' | 'overlay_volume'
  readonly lower: string
  readonly upper: string
  readonly work: string
}

export function isOverlay(layers: RepositoryLayers): layers is OverlayLayers {
  return layers.strategy === 'late_overlay' || layers.strategy === 'overlay_volume'
}

/** Where a later room finds the repository's two sides, on the host. */
export type RepositoryLayers =
  | OverlayLayers
  | { readonly strategy: 'copy'; readonly lower: string; readonly copy: string }
  | {
      readonly strategy: 'archive'
      readonly lower: string
      /** The task's own files, which are sent after the snapshot's and replace them. */
      readonly upper: string
      /** What the repository is at the end; there once it is collected. */
      readonly copy: string
    }

/** How the parts of a workspace get to the engine and back. Releasing takes them away from the engine. */
export interface Delivery extends Releasable {
  readonly mounts: Readonly<Record<Part, MountSource>>
  /** Whether the worker sees what the container writes while it runs. */
  readonly shared: boolean
  /**
   * Brings what the slot and the layers hold to where `mounts` will show it. The parts must be complete.
   *
   * @param options.image an image that the engine has
   * @param options.progress told `{stage: 'send', bytes}`
   * @throws TaskFailure `container.create_failed`, `engine.unavailable`; the signal's reason
   */
  send(options: {
    image: string
    signal: AbortSignal
    progress: (data: Record<string, unknown>) => void
  }): Promise<void>
  /**
   * Brings a part that the dead container left to the worker's disk: the repository to where the layers say, the
   * output to the slot's folder.
   *
   * @throws TaskFailure `capture.failed`, `engine.unavailable`; the signal's reason
   */
  collect(part: 'repo' | 'output', signal: AbortSignal): Promise<void>
  /** Brings the gate's folder again, after it was changed for a container that has ended. @throws as `send` */
  sendGate(signal: AbortSignal): Promise<void>
  /** Adds the gate's marks to those in the slot's log folder. @throws as `collect` */
  collectMarks(signal: AbortSignal): Promise<void>
}

/**
 * What to show the container. `lower` of the layers is pristine: a snapshot, whose `.git` is trusted, or the copy of a
 * folder, whose `.git` is as little trusted as the task's.
 */
export interface WorkspacePlan extends Releasable {
  readonly slot: Slot
  readonly base: Base
  readonly layers: RepositoryLayers
  /** What the changes are relative to: the tree of `base.commit`, or the files of `lower` as they lie. */
  readonly compareWith: 'commit' | 'folder'
  /** Whether the task may only read its repository. */
  readonly readOnly: boolean
  /** What of the source is not in the workspace, for the one who reads the changes. */
  readonly notes: readonly string[]
  /** What of the source is not in the workspace, and why: told in the log and in the result. Paths below /workspace. */
  readonly leftOut: readonly Skipped[]
  readonly delivery: Delivery
  /** Paths below the repository that the platform put there; they are no changes of the task's. */
  readonly placed: readonly string[]
  /** uid and gid that own the workspace. */
  readonly owner: { readonly uid: number; readonly gid: number }
}
