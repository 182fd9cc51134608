import { lstat, opendir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerEngine } from '../engine/engine.js'
import { monotonicMs, sleep } from '../support/lifecycle.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import type { Limit } from './limit.js'

export interface DiskWatchOptions {
  readonly engine: ContainerEngine
  /** The container's id. */
  readonly id: string
  readonly plan: WorkspacePlan
  /** What the task may write in all, and to its output, in bytes. */
  readonly diskBytes: number
  readonly outputBytes: number
  /** Whether the task may write to the container's own root, which is on no disk of the task's. */
  readonly writableRoot: boolean
  /** Told once what the task has passed. */
  readonly onLimit: (limit: Limit) => void
}

/** What a task did to its disk. */
export interface DiskRecord {
  /** What its files occupied last; null when it was never seen. */
  readonly bytes: number | null
  /** Whether its disk had no room for another block or file at some time. */
  readonly wasFull: boolean
  /** What it had passed at its end. */
  readonly over: Limit | null
}

export const UNSEEN_DISK: DiskRecord = { bytes: null, wasFull: false, over: null }

/** Between two looks at the least; one that takes long is followed by a long pause. In milliseconds. */
const LOOK_MS = 500
const WALK_MS = 2000
const REST = 20
/** A walk counts no further: what it has counted by then is over any limit, or nobody could read it. */
const WALK_ENTRIES = 500_000
const WALK_LIMIT_MS = 5000

/**
 * Watches what a task writes. A disk of its own ends the writing by itself, and is only looked at; elsewhere, and where
 * root writes beside its workspace, what passes the limit is told so that the task can be ended.
 */
export class DiskWatch {
  readonly #options: DiskWatchOptions
  readonly #ended = new AbortController()
  readonly #loops: Promise<unknown>
  #bytes: number | null = null
  #rootBytes = 0
  #wasFull = false
  #over: Limit | null = null

  constructor(options: DiskWatchOptions) {
    this.#options = options
    const loops = [this.#repeat(LOOK_MS, () => this.#look())]
    if (options.writableRoot) loops.push(this.#repeat(WALK_MS, () => this.#lookAtRoot()))
    this.#loops = Promise.allSettled(loops)
  }

  /** The last look, once the container has ended and before anything of it is removed. Never rejects. */
  async finish(): Promise<DiskRecord> {
    this.#ended.abort()
    await this.#loops
    await this.#look().catch(() => undefined)
    await this.#lookAtOutput(true).catch(() => undefined)
    return { bytes: this.#bytes, wasFull: this.#wasFull, over: this.#over }
  }

  /** For one whose end is not of interest any more. */
  async stop(): Promise<void> {
    this.#ended.abort()
    await this.#loops
  }

  async #repeat(leastMs: number, look: () => Promise<void>): Promise<void> {
    const { signal } = this.#ended
    for (let pauseMs = leastMs; !signal.aborted; ) {
      await sleep(pauseMs, signal)
      const since = monotonicMs()
      // An engine that is away for a moment, or a folder that is gone by now, is no reason to look away for good.
      await look().catch(() => undefined)
      pauseMs = Math.max(leastMs, REST * (monotonicMs() - since))
    }
  }

  async #look(): Promise<void> {
    const { plan, diskBytes, outputBytes } = this.#options
    if (plan.slot.disk) {
      const { bytes, full } = plan.slot.disk.usage()
      this.#bytes = bytes + this.#rootBytes
      this.#wasFull ||= full
    } else this.#bytes = (await this.#written()) + this.#rootBytes
    // What only writes to its own disk is ended by that: by an error, which it may handle.
    const held = plan.slot.disk !== null && this.#rootBytes === 0
    if (held) this.#wasFull ||= this.#bytes > diskBytes
    else if (this.#bytes > diskBytes) this.#pass('task.disk_full')
    if (this.#bytes > outputBytes) await this.#lookAtOutput(false)
  }

  async #lookAtRoot(): Promise<void> {
    const { engine, id } = this.#options
    this.#rootBytes = (await engine.writtenBytes(id)) ?? this.#rootBytes
  }

  /** What lies in the folders, or the engine's volumes, that the task may write to. */
  async #written(): Promise<number> {
    const { engine, plan } = this.#options
    const { mounts, shared } = plan.delivery
    const parts = [mounts.repo, mounts.output, mounts.home, mounts.log]
    if (!shared) return await engine.volumeBytes(parts.map(({ source }) => source))
    const { layers, slot } = plan
    const repo = layers.strategy === 'copy' ? layers.copy : layers.upper
    let sum = 0
    for (const folder of [repo, slot.output, slot.home, slot.log]) sum += (await treeBytes(folder)).allocated
    return sum
  }

  /** @param whole counts what a reader would get: holes too */
  async #lookAtOutput(whole: boolean): Promise<void> {
    const { engine, plan, outputBytes } = this.#options
    const { output } = plan.delivery.mounts
    const bytes = plan.delivery.shared
      ? (await treeBytes(plan.slot.output))[whole ? 'apparent' : 'allocated']
      : await engine.volumeBytes([output.source])
    if (bytes > outputBytes) this.#pass('task.output_limit')
  }

  #pass(limit: Limit): void {
    if (this.#over === null) this.#options.onLimit(limit)
    this.#over ??= limit
  }
}

/** What the files below a folder occupy, and how long they are, in bytes. Follows no link and opens no file. */
async function treeBytes(root: string): Promise<{ allocated: number; apparent: number }> {
  const until = monotonicMs() + WALK_LIMIT_MS
  const folders = [root]
  const sum = { allocated: 0, apparent: 0 }
  let entries = 0
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const entry of await opendir(folder)) {
      entries += 1
      if (entries > WALK_ENTRIES || monotonicMs() > until) return sum
      const path = join(folder, entry.name)
      const found = await lstat(path).catch(() => null)
      if (!found) continue
      sum.allocated += found.blocks * 512
      if (found.isFile()) sum.apparent += found.size
      if (found.isDirectory()) folders.push(path)
    }
  }
  return sum
}
