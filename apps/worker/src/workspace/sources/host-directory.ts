import { join } from 'node:path'
import { type HostDirectorySource, TaskFailure } from '@agirunner/contracts'
import type { HostRoot } from '../../support/host-roots.js'
import { ChildPool } from '../children/pool.js'
import type { Slot } from '../plan.js'
import { type FileOwner, isRoot } from '../slots.js'
import type { CopiedFolder, CopyJob } from './copy-job.js'
import type { Sourced, Watch } from './sourced.js'

export interface HostDirectoriesOptions {
  readonly roots: readonly HostRoot[]
  readonly limits: {
    readonly maxFiles: number
    readonly maxTreeBytes: number
    readonly totalMs: number
    /** How many folders may be copied at once. */
    readonly children: number
  }
}

/** A copy holds names and little more; the bytes go from file to file. */
const MAX_MEMORY_BYTES = 2 ** 30

/**
 * Folders of the host as the lower layer of a task: copied once into its slot, in a child process, because the live
 * folder may change and must never be written to.
 */
export class HostDirectories {
  readonly #options: HostDirectoriesOptions
  readonly #pool: ChildPool | null

  constructor(options: HostDirectoriesOptions) {
    this.#options = options
    this.#pool = options.roots.length > 0 ? makePool(options.limits.children) : null
  }

  /** @throws TaskFailure `spec.forbidden`, `workspace.*` */
  async take(
    { path, readOnly }: HostDirectorySource,
    slot: Slot,
    owner: FileOwner,
    watch: Watch,
  ): Promise<Sourced> {
    const { roots, limits } = this.#options
    if (!this.#pool) throw switchedOff()
    const target = join(slot.root, 'host')
    const job: CopyJob = {
      roots,
      path,
      target,
      owner: isRoot() ? owner : null,
      maxFiles: limits.maxFiles,
      maxBytes: limits.maxTreeBytes,
    }
    const { commit, notes } = await this.#pool.run<CopiedFolder>('copy', job, {
      ...watch,
      deadlineMs: limits.totalMs,
    })
    return {
      base: { url: null, ref: null, commit },
      // It lies in the slot and goes with it.
      lower: { repo: target, unpin: async () => undefined },
      compareWith: 'folder',
      readOnly,
      notes,
      leftOut: [],
      files: [],
    }
  }

  async close(): Promise<void> {
    await this.#pool?.close()
  }
}

function makePool(size: number): ChildPool {
  return new ChildPool({
    module: new URL('./child.js', import.meta.url),
    size,
    heapMiB: MAX_MEMORY_BYTES / 2 ** 21,
    rssBytes: MAX_MEMORY_BYTES,
    privateMounts: false,
    phase: 'workspace',
    failures: { late: 'workspace.timeout', large: 'workspace.too_large', died: 'workspace.remote_broken' },
  })
}

function switchedOff(): TaskFailure {
  return new TaskFailure('spec.forbidden', 'this worker lets tasks use no folder of its host', {
    phase: 'workspace',
    hint: 'use another source, or have the operator allow folders with AGIRUNNER_HOST_ROOTS',
  })
}
