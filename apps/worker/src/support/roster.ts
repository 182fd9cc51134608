import type { LiveContainer } from '@agirunner/contracts'

/** Null where there is none. */
export interface ContainerLimits {
  readonly cpus: number | null
  readonly memoryBytes: number | null
  readonly pids: number | null
}

/** What a container has used of the processors since its start, and what it uses of all else now; null for what nobody tells. */
export interface CurrentUse {
  readonly cpuNs: number | null
  readonly memoryBytes: number | null
  readonly pids: number | null
}

/** A container as the engine is told to make it. */
export interface MadeContainer {
  readonly name: string
  readonly kind: 'task' | 'parked' | 'helper'
  readonly image: string
  /** The image's id, or a name of it. */
  readonly imageId: string
  readonly limits: ContainerLimits
}

/** What nobody but its room knows of a container. */
export type ContainerFacts = Pick<
  LiveContainer,
  'taskId' | 'attempt' | 'tenantId' | 'labels' | 'image' | 'imageDigest' | 'network'
> & {
  readonly name: string
  readonly kind: 'task' | 'parked'
  readonly limits: ContainerLimits
  /** Asked while somebody looks, and only then. */
  readonly use: () => CurrentUse | null
}

/**
 * Where rooms note which containers there are, for whoever looks at them. These are calls on every task's way, so none waits
 * for anything and none throws.
 */
export interface Roster {
  made(id: string, container: MadeContainer): void
  describe(id: string, facts: ContainerFacts): void
  /** @param lastLine the last line of its log, redacted; asked while somebody looks */
  heard(id: string, lastLine: () => Promise<LiveContainer['lastOutput']>): void
  /** @param at when, in Unix milliseconds; now where it is left out */
  started(id: string, at?: number): void
  limited(id: string, limits: Pick<ContainerLimits, 'cpus' | 'memoryBytes'>): void
  stopping(id: string): void
  ended(id: string): void
  /** @param isKept whether it outlasts its task from now on */
  renamed(id: string, name: string, isKept: boolean): void
  removed(id: string): void
}

/** Nobody looks. */
export const NO_ROSTER: Roster = {
  made: ignore,
  describe: ignore,
  heard: ignore,
  started: ignore,
  limited: ignore,
  stopping: ignore,
  ended: ignore,
  renamed: ignore,
  removed: ignore,
}

function ignore(): void {}
