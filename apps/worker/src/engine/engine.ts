import type { Readable } from 'node:stream'
import type { Secret } from '../intake/accepted-task.js'
import type { Figures } from './cgroup/figures.js'

/** What the engine says of itself, read once at start. */
export interface EngineInfo {
  readonly name: string
  readonly version: string
  readonly apiVersion: string
  readonly cgroupVersion: string
  /** `cgroupfs`, `systemd` or `none`. */
  readonly cgroupDriver: string
  /** Of `memory`, `swap`, `processes` and `CPU`, the limits that it would drop, because its machine can't enforce them. */
  readonly unenforced: readonly string[]
  readonly storageDriver: string
  /** Cores that a container may be given at most. */
  readonly cpus: number
  readonly memoryBytes: number
  /** Whether the engine has the small init that forwards signals and reaps; containers need it. */
  readonly init: boolean
  readonly securityOptions: readonly string[]
}

export interface ImageInfo {
  readonly id: string
  /** `name@sha256:…` where a registry gave one. */
  readonly digest: string | null
  /** The image's own environment, `K=V`. */
  readonly env: readonly string[]
}

export interface Mount {
  readonly type: 'bind' | 'volume'
  /** A folder of the host, or the name of a volume. */
  readonly source: string
  readonly target: string
  readonly readOnly: boolean
}

/** Everything about a container that the runtime ever asks for. What isn't here can't be set. */
export interface ContainerSpec {
  readonly name: string
  readonly image: string
  readonly command: readonly string[]
  readonly env: readonly string[]
  readonly labels: Readonly<Record<string, string>>
  readonly user: string
  readonly readOnlyRoot: boolean
  readonly capabilities: readonly string[]
  readonly mounts: readonly Mount[]
  /** Target → mount options, such as `/tmp` → `size=1024,exec`. */
  readonly tmpfs: Readonly<Record<string, string>>
  readonly cpus: number
  readonly memoryBytes: number
  readonly pids: number
  readonly shmBytes: number
  /** The control group above the container's own; null for the engine's choice. */
  readonly cgroupParent?: string | null
  /** `none`, or the name of a network that `ensureNetwork` made. */
  readonly network: string
  /** An OCI runtime of the engine's; null means its default. */
  readonly runtime: string | null
}

export interface ContainerExit {
  readonly exitCode: number
  readonly oomKilled: boolean
  /** Whether it is gone, or ended because the engine went down: then the status is not the task's. */
  readonly lost: boolean
  readonly error: string
  readonly startedAt: string
  readonly finishedAt: string
}

/** What the engine says that a container has used so far. */
export interface ContainerUsage {
  readonly figures: Figures
  /** Null when the engine does not tell, as for a container without a network. */
  readonly network: { readonly rxBytes: number; readonly txBytes: number } | null
}

export interface ContainerSummary {
  readonly id: string
  readonly name: string
  readonly state: string
  readonly labels: Readonly<Record<string, string>>
}

export interface VolumeSpec {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly options: Readonly<Record<string, string>>
}

/** Bytes that a container wrote to one of its two streams, in the order in which the engine passed them on. */
export interface OutputRun {
  readonly stream: 'stdout' | 'stderr'
  readonly bytes: Buffer
}

/** Progress of a pull, summed over its layers, in bytes as they travel. */
export type PullProgress = (progress: { currentBytes: number; totalBytes: number }) => void

/**
 * What the runtime needs of a container engine. Every call has a deadline of its own and rejects with a TaskFailure:
 * `engine.unavailable` when the engine can't be reached, else the code that the method names. Removing what is not
 * there succeeds.
 */
export interface ContainerEngine {
  info(): Promise<EngineInfo>
  /** Null when the image is not on the engine's machine. */
  image(reference: string): Promise<ImageInfo | null>
  /** @throws `image.not_found`, `image.auth_failed`, `image.pull_failed` */
  pull(
    reference: string,
    options: {
      credentials: { username: string; password: Secret } | null
      progress: PullProgress
      signal: AbortSignal
    },
  ): Promise<void>
  /** Makes the long-lived network if it is not there; its containers can't reach each other. */
  ensureNetwork(name: string, labels: Readonly<Record<string, string>>): Promise<void>
  /** Removes it when no container uses it; a network in use stays. */
  removeNetwork(name: string): Promise<void>
  createVolume(volume: VolumeSpec): Promise<void>
  removeVolume(name: string): Promise<void>
  /** @returns the container's id @throws `container.create_failed`, `image.not_found` */
  create(spec: ContainerSpec): Promise<string>
  /** @throws `container.start_failed` */
  start(id: string): Promise<void>
  /** Resolves when the container has ended or is gone, at once when it already has or is. */
  exit(id: string, signal: AbortSignal): Promise<ContainerExit>
  /** Whether the engine noted for an ended container that a process was killed for want of memory; it may note it late. */
  wasOutOfMemory(id: string): Promise<boolean>
  /** Signals that were sent to a container through the engine by anybody, the last one first, such as `SIGKILL`. */
  signalsTo(id: string): Promise<string[]>
  /** Null for one that does not run. */
  usage(id: string): Promise<ContainerUsage | null>
  /** Sends a signal to the main process; succeeds when it has ended already. */
  kill(id: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** Kills and removes it with its anonymous volumes. Resolves when it is gone. */
  remove(id: string): Promise<void>
  /**
   * Follows what a container writes, to be called before its start: when this resolves, nothing that it writes from then
   * on is missed. Ends with the container, or with the connection. Whoever reads must go on reading or abort, because an
   * unread one stalls the container and even the engine's other calls about it.
   *
   * @throws `container.start_failed` @throws while reading, the connection's error or the signal's reason
   */
  attach(id: string, signal: AbortSignal): Promise<AsyncIterable<OutputRun>>
  /**
   * Unpacks a plain tar archive in a folder of a container that need not be running. The archive is read as fast as the
   * engine takes it, and destroyed at the end.
   *
   * @param options.progress told the bytes that were sent so far
   * @throws `container.create_failed`, what the archive's source threw, or the signal's reason
   */
  putArchive(
    id: string,
    folder: string,
    archive: Readable,
    options: { signal: AbortSignal; progress: (bytes: number) => void },
  ): Promise<void>
  /**
   * A path of a container that need not be running, as a tar archive; empty when there is no such path.
   *
   * @throws while reading, `capture.failed` or the signal's reason
   */
  getArchive(id: string, path: string, signal: AbortSignal): AsyncIterable<Buffer>
  containers(label: string): Promise<ContainerSummary[]>
  volumes(label: string): Promise<{ name: string; labels: Readonly<Record<string, string>> }[]>
}
