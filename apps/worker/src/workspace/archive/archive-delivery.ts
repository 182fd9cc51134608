import { appendFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import type { ContainerEngine, ContainerSpec } from '../../engine/engine.js'
import { labelsOf, type Owner } from '../../engine/labels.js'
import { HELPER } from '../helper-container.js'
import {
  type Delivery,
  type MountSource,
  PARTS,
  type Part,
  type RepositoryLayers,
  type Slot,
} from '../plan.js'
import { removeTree } from '../remove-tree.js'
import { pack } from './pack.js'
import { readTar } from './read-tar.js'
import { writeSpecials } from './specials.js'
import { UNPACK_LIMITS, type UnpackLimits, unpack } from './unpack.js'

export interface ArchiveOptions {
  readonly engine: ContainerEngine
  readonly worker: Owner
  readonly slot: Slot
  readonly layers: RepositoryLayers & { readonly strategy: 'archive' }
  readonly limits?: UnpackLimits
}

/** Where the carrier has the volumes, each by the name of its part. */
const CARRIED = 'agirunner'
/** The marks of a gate are small; more is the task's own doing. In bytes. */
const MAX_MARKS = 64 * 1024
const PROGRESS_MS = 250

/**
 * Brings a workspace to an engine that shares no files with the worker, and back: each part is a volume of the engine's,
 * filled and read by the engine's archive calls.
 *
 * These calls go to a container of their own, the carrier. It is made of the task's image and never started, so nothing
 * of that image runs; and it may write what the task's container sees read-only, which a call to that one could not.
 */
export class ArchiveDelivery implements Delivery {
  readonly shared = false
  readonly mounts: Readonly<Record<Part, MountSource>>
  readonly #options: ArchiveOptions
  readonly #carrier: string
  readonly #released = new AbortController()
  readonly #underWay = new Set<Promise<unknown>>()
  #sent = false

  constructor(options: ArchiveOptions) {
    const { slot } = options
    this.#options = options
    this.#carrier = `agirunner-carrier-${slot.id}`
    const volume = (part: Part): MountSource => ({ type: 'volume', source: `agirunner-${slot.id}-${part}` })
    this.mounts = Object.fromEntries(PARTS.map(part => [part, volume(part)])) as Record<Part, MountSource>
  }

  async send({ image, signal, progress }: Parameters<Delivery['send']>[0]): Promise<void> {
    await this.#during(signal, async inner => {
      this.#sent = true
      await this.#makeVolumes()
      inner.throwIfAborted()
      await this.#options.engine.create(this.#carrierSpec(image))
      inner.throwIfAborted()
      // At the root, because the engine takes a link that leads out of the folder it unpacks in for an attack.
      await this.#options.engine.putArchive(this.#carrier, '/', Readable.from(this.#pack(inner)), {
        signal: inner,
        progress: throttled(bytes => progress({ stage: 'send', bytes })),
      })
    })
  }

  async sendGate(signal: AbortSignal): Promise<void> {
    const { engine, slot } = this.#options
    await this.#during(signal, async inner => {
      const archive = Readable.from(pack([{ path: slot.gate, name: `${CARRIED}/gate` }], inner))
      await engine.putArchive(this.#carrier, '/', archive, { signal: inner, progress: () => undefined })
    })
  }

  async collect(part: 'repo' | 'output', signal: AbortSignal): Promise<void> {
    const { slot, layers, limits = UNPACK_LIMITS } = this.#options
    const root = part === 'repo' ? layers.copy : slot.output
    await this.#during(signal, async inner => {
      await removeTree(root)
      await mkdir(root, { mode: 0o700 })
      const archive = this.#options.engine.getArchive(this.#carrier, inCarrier(part), inner)
      const specials = await unpack(archive, { root, top: part, limits, signal: inner })
      if (part === 'repo') await writeSpecials(slot.root, specials)
    })
  }

  async collectMarks(signal: AbortSignal): Promise<void> {
    const { engine, slot } = this.#options
    await this.#during(signal, async inner => {
      const archive = engine.getArchive(this.#carrier, `${inCarrier('log')}/s`, inner)
      await appendFile(join(slot.log, 's'), await firstFile(archive))
    })
  }

  async release(): Promise<void> {
    this.#released.abort(new Error('the workspace is released'))
    await Promise.allSettled(this.#underWay)
    if (!this.#sent) return
    const { engine } = this.#options
    await engine.remove(this.#carrier)
    await allOf(Object.values(this.mounts).map(({ source }) => engine.removeVolume(source)))
  }

  async #makeVolumes(): Promise<void> {
    const { engine, worker, slot } = this.#options
    const labels = labelsOf(worker, 'task', slot.id)
    const names = Object.values(this.mounts).map(({ source }) => source)
    await allOf(names.map(name => engine.createVolume({ name, labels, options: {} })))
  }

  #pack(signal: AbortSignal): AsyncIterable<Buffer> {
    const { slot, layers } = this.#options
    const name = (part: Part) => `${CARRIED}/${part}`
    const { context, output, home, log, gate } = slot
    const folders = Object.entries({ context, output, home, log, gate })
    return pack(
      [
        { path: layers.lower, name: name('repo') },
        { path: layers.upper, name: name('repo') },
        ...folders.map(([part, path]) => ({ path, name: name(part as Part) })),
      ],
      signal,
    )
  }

  #carrierSpec(image: string): ContainerSpec {
    const { worker, slot } = this.#options
    return {
      ...HELPER,
      name: this.#carrier,
      image,
      command: ['/never-started'],
      labels: labelsOf(worker, 'helper', slot.id, image),
      user: '0:0',
      // The engine refuses archives for a container whose root is read-only.
      readOnlyRoot: false,
      mounts: PARTS.map(part => ({ ...this.mounts[part], target: inCarrier(part), readOnly: false })),
    }
  }

  /** Runs work that ends with the release at the latest, and that the release waits for. */
  async #during<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const inner = AbortSignal.any([signal, this.#released.signal])
    inner.throwIfAborted()
    const running = work(inner)
    this.#underWay.add(running)
    try {
      return await running
    } finally {
      this.#underWay.delete(running)
    }
  }
}

function inCarrier(part: Part): string {
  return `/${CARRIED}/${part}`
}

/** The content of an archive's first entry; empty when that is no plain file, or when there is none. */
async function firstFile(archive: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const { header, content } of readTar(archive)) {
    if (header.type !== 'file') break
    for await (const chunk of content()) {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes >= MAX_MARKS) break
    }
    break
  }
  return Buffer.concat(chunks)
}

/** Waits for all before it says that one has failed: what is under way must not outlive the caller. */
async function allOf(calls: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(calls)).find(({ status }) => status === 'rejected')
  if (failed?.status === 'rejected') throw failed.reason
}

function throttled(tell: (bytes: number) => void): (bytes: number) => void {
  let next = 0
  return bytes => {
    if (Date.now() < next) return
    next = Date.now() + PROGRESS_MS
    tell(bytes)
  }
}
