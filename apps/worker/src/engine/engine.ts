import type { Readable } from 'node:stream'
import type { EngineFacts } from '@agirunner/contracts'
import type { Secret } from '../support/secret.js'
import type { Figures } from './cgroup/figures.js'

/** What the engine says of itself, read once at start. */
export interface EngineInfo {
  readonly name: string
  readonly version: string
  readonly apiVersion: string
  /** What its containers run on, such as `linux/amd64`. */
  readonly platform: string
  readonly cgroupVersion: string
  /** `cgroupfs`, `systemd` or `none`. */
  readonly cgroupDriver: string
  readonly storageDriver: string
  /** Cores that a container may be given at most. */
  readonly cpus: number
  readonly memoryBytes: number
  /** What it says that it can enforce. */
  readonly facts: EngineFacts
}

export interface ImageInfo {
  readonly id: string
  /** `repository@sha256:…` for every repository that it was pulled from or pushed to. */
  readonly repoDigests: readonly string[]
  /** What it was built for, such as `linux/arm64`. */
  readonly platform: string
  /** The image's own environment, `K=V`. */
  readonly env: readonly string[]
  /** Paths at which an engine would make volumes that nobody asked for. */
  readonly volumes: readonly string[]
}

/** What an engine has under a name; one image may have several. */
export interface ImageSummary {
  readonly id: string
  /** `repository:tag` and `repository@sha256:…`. */
  readonly names: readonly string[]
}

/** What a registry is told to know who asks. */
export type RegistryCredentials =
  | { readonly username: string; readonly password: Secret }
  | { readonly identityToken: Secret }

export interface Mount {
  readonly type: 'bind' | 'volume'
  /** A folder of the host, or the name of a volume. */
  readonly source: string
  readonly target: string
  readonly readOnly: boolean
  /** Whether the container sees what is mounted below the folder later on; of binds alone. */
  readonly live?: boolean
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
  /** `none`, or the name of a network that `createNetwork` made. */
  readonly network: string
  /** Nameservers in place of the engine's choice; empty for that. */
  readonly dns: readonly string[]
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
  /** Now. */
  readonly memoryBytes: number | null
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

/** A bridge of its own on the engine's machine, IPv4 only, whose containers can't reach each other. */
export interface NetworkSpec {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** The interface's name on the engine's machine, of 15 characters at most. */
  readonly bridge: string
  /** In CIDR notation. */
  readonly subnet: string
  /** The bridge's own address. */
  readonly gateway: string
  /** Without a way out of it. */
  readonly internal: boolean
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
  /** Whether it answers. */
  ping(): Promise<void>
  info(): Promise<EngineInfo>
  /** Null when the image is not on the engine's machine. */
  image(reference: string): Promise<ImageInfo | null>
  /** All images on the engine's machine. */
  images(): Promise<ImageSummary[]>
  /**
   * Tells of each change of any image, by whomever, from `onListening` on. Resolves, or rejects, when it can't any more; the
   * signal ends it.
   */
  watchImages(options: {
    readonly onListening: () => void
    readonly onChange: () => void
    readonly signal: AbortSignal
  }): Promise<void>
  /**
   * @param options.idleMs how long nothing at all may come from the engine
   * @throws `image.not_found`, `image.auth_failed`, `image.incompatible`, `image.pull_failed`, or the signal's reason
   */
  pull(
    reference: string,
    options: {
      credentials: RegistryCredentials | null
      progress: PullProgress
      idleMs: number
      signal: AbortSignal
    },
  ): Promise<void>
  /**
   * Asks the image's registry whether it gives the image to these credentials; nothing is pulled.
   *
   * @throws what `pull` throws
   */
  askRegistry(
    reference: string,
    options: { credentials: RegistryCredentials | null; signal: AbortSignal },
  ): Promise<void>
  /** @returns false when its subnet belongs to another network @throws `container.create_failed` */
  createNetwork(network: NetworkSpec): Promise<boolean>
  /** Whether a running container is in it; true as well when that can't be told. */
  networkInUse(name: string): Promise<boolean>
  /** Removes it when no container uses it; a network in use stays. */
  removeNetwork(name: string): Promise<void>
  /** What a container has written to its own root, in bytes; null when the engine does not tell. The engine walks it. */
  writtenBytes(id: string): Promise<number | null>
  /** What is in volumes, all together, in bytes; nothing for one that is not there. The engine walks them. */
  volumeBytes(names: readonly string[]): Promise<number>
  createVolume(volume: VolumeSpec): Promise<void>
  removeVolume(name: string): Promise<void>
  /** @returns the container's id @throws `container.create_failed`, `image.not_found`, `image.incompatible` */
  create(spec: ContainerSpec): Promise<string>
  /** @throws `container.start_failed`, `image.incompatible` when the image has nothing that could be started */
  start(id: string): Promise<void>
  /**
   * Resolves when the container has ended or is gone, at once when it already has or is. An end that came before somebody
   * waited for it is only believed when the engine is known not to have brought it about by its own restart.
   */
  exit(id: string, signal: AbortSignal): Promise<ContainerExit>
  /** When a container was started last, in Unix milliseconds; null for one that never was, or is gone. */
  startedAt(id: string): Promise<number | null>
  /** Whether the engine noted for an ended container that a process was killed for want of memory; it may note it late. */
  wasOutOfMemory(id: string): Promise<boolean>
  /** Signals that were sent to a container through the engine by anybody, the last one first, such as `SIGKILL`. */
  signalsTo(id: string): Promise<string[]>
  /** Null for one that does not run. */
  usage(id: string): Promise<ContainerUsage | null>
  /** Sends a signal to the main process; succeeds when it has ended already. */
  kill(id: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /** @throws `container.create_failed` when another has the name */
  rename(id: string, name: string): Promise<void>
  /**
   * Changes what a container may use that exists already.
   *
   * @throws TaskFailure `container.create_failed`, such as when it uses more by now
   */
  setLimits(id: string, limits: Pick<ContainerSpec, 'cpus' | 'memoryBytes'>): Promise<void>
  /** Takes a container off a network, whether it runs or not; succeeds when it is not on it. */
  disconnect(id: string, network: string): Promise<void>
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
  networks(label: string): Promise<{ name: string; labels: Readonly<Record<string, string>> }[]>
  volumes(label: string): Promise<{ name: string; labels: Readonly<Record<string, string>> }[]>
}
