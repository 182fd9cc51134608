import { randomUUID } from 'node:crypto'
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerEngine, ContainerSpec, Mount } from '../engine/engine.js'
import { labelsOf, type Owner } from '../engine/labels.js'
import { whyNoPrivateMounts } from './children/private-mounts.js'
import { makeDelivery } from './delivery.js'
import type { TaskDisks } from './disk/task-disks.js'
import { HELPER } from './helper-container.js'
import { isLive } from './late-overlay.js'
import { isMountable, makeLayers } from './layers.js'
import { type Delivery, isOverlay, type Slot, STRATEGIES, type Strategy } from './plan.js'
import { type FileOwner, isRoot, makeSlot, ownerFor, removeSlot } from './slots.js'

export interface ProbeOptions {
  /** An image with `/bin/sh` and coreutils. */
  readonly image: string
  readonly owner: Owner
  readonly dataDir: string
}

const PROBE_MS = 30_000
const PROBE_BYTES = 2 ** 20
/** Reads what the worker wrote, and moves a folder of it: EXDEV in an overlay without redirect_dir. */
const REPO = '/workspace/repo'
const SCRIPT =
  'until [ -e /workspace/repo/folder/file ]; do sleep 0.02; done; cd /workspace/repo && read -r line <folder/file && mv folder moved && echo "$line" >answer'

/**
 * Finds out how workspaces can get into containers here, by running one for each way until one works. Leaves nothing
 * behind.
 *
 * @returns the best strategy that works, and why it is that one; `archive`, which asks least of the engine, where none
 *   could be tried
 */
export async function probeStrategy(
  engine: ContainerEngine,
  options: ProbeOptions,
): Promise<{ strategy: Strategy; why: string }> {
  const failed: string[] = []
  for (const strategy of STRATEGIES.filter(one => one !== 'late_overlay')) {
    const why = await whyNot(strategy, engine, options)
    const before = failed.map(reason => `; ${reason}`).join('')
    if (why === null) return { strategy, why: `${WORKS[strategy]}${before}` }
    failed.push(`no ${strategy}: ${why}`)
  }
  return { strategy: 'archive', why: `nothing could be tried; ${failed.join('; ')}` }
}

/**
 * Finds out whether a container here can write to a disk that the worker mounts for it.
 *
 * @returns null when it can, else why not
 */
export async function probeDisks(
  engine: ContainerEngine,
  strategy: Strategy,
  disks: TaskDisks,
  options: ProbeOptions,
): Promise<string | null> {
  try {
    return await tryStrategy(strategy, engine, options, disks)
  } catch (error) {
    return (error as Error).message.trim()
  }
}

/**
 * Finds out whether a container that runs sees what the worker mounts for it.
 *
 * @returns null when it does, else why not
 */
export async function probeLate(
  engine: ContainerEngine,
  disks: TaskDisks,
  options: ProbeOptions,
): Promise<string | null> {
  try {
    return await tryStrategy('late_overlay', engine, options, disks)
  } catch (error) {
    return (error as Error).message.trim()
  }
}

const WORKS: Readonly<Record<Strategy, string>> = {
  late_overlay: 'a container that ran wrote through an overlay that was mounted for it',
  overlay_volume: 'a container wrote through an overlay volume',
  copy: "a container wrote to the worker's folder",
  archive: 'a container wrote to a volume that the engine archived',
}

async function whyNot(
  strategy: Strategy,
  engine: ContainerEngine,
  options: ProbeOptions,
): Promise<string | null> {
  const cannot = strategy === 'overlay_volume' ? await whyNoOverlay(options) : null
  if (cannot !== null) return cannot
  try {
    if ((await engine.image(options.image)) === null) return `image ${options.image} is not there to try it`
    return await tryStrategy(strategy, engine, options)
  } catch (error) {
    return (error as Error).message
  }
}

async function whyNoOverlay({ dataDir }: ProbeOptions): Promise<string | null> {
  if (!isRoot()) return 'the worker is not root'
  if (!isMountable(dataDir)) return `the path of ${dataDir} can't stand in mount options`
  await mkdir(dataDir, { recursive: true, mode: 0o711 })
  const mounts = await whyNoPrivateMounts(dataDir)
  return mounts === null ? null : `the worker can't mount; ${mounts}`
}

/** @returns null when what the container wrote arrived on our disk */
async function tryStrategy(
  strategy: Strategy,
  engine: ContainerEngine,
  { image, owner: worker, dataDir }: ProbeOptions,
  disks: TaskDisks | null = null,
): Promise<string | null> {
  const owner = ownerFor('user')
  const slot = await makeSlot(dataDir, worker, owner, {
    disks: disks && { from: disks, bytes: PROBE_BYTES },
    late: strategy === 'late_overlay',
  })
  const signal = AbortSignal.timeout(PROBE_MS)
  const made: { delivery?: Delivery; id?: string } = {}
  try {
    const secret = randomUUID()
    const lower = await makeLower(slot, owner, secret)
    const layers = await makeLayers(strategy, slot, lower, owner, signal)
    const started = async (mount: Mount) => {
      made.id = await engine.create(probeSpec(worker, slot, image, mount))
      await engine.start(made.id)
    }
    if (isLive(slot)) {
      await started({ type: 'bind', source: slot.live, target: REPO, readOnly: false, live: true })
      made.delivery = await makeDelivery(engine, worker, slot, layers)
    } else {
      made.delivery = await makeDelivery(engine, worker, slot, layers)
      await made.delivery.send({ image, signal, progress: () => undefined })
      await started({ ...made.delivery.mounts.repo, target: REPO, readOnly: false })
    }
    const delivery = made.delivery
    if (made.id === undefined) throw new Error('no container was made')
    const exit = await engine.exit(made.id, signal)
    if (exit.exitCode !== 0) return `the container ended with ${exit.exitCode}`
    await delivery.collect('repo', signal)
    const side = isOverlay(layers) ? layers.upper : layers.copy
    const answer = await readFile(join(side, 'answer'), 'utf8').catch(() => '')
    return answer.trim() === secret ? null : 'the container wrote elsewhere'
  } finally {
    if (made.id !== undefined) await engine.remove(made.id)
    await made.delivery?.release()
    await removeSlot(slot)
  }
}

/** A tree with one folder of the task's and a file in it that nobody else knows. */
async function makeLower(slot: Slot, owner: FileOwner, secret: string): Promise<string> {
  const lower = join(slot.root, 'lower')
  await mkdir(join(lower, 'folder'), { recursive: true })
  await writeFile(join(lower, 'folder/file'), `${secret}\n`)
  if (isRoot()) for (const path of [lower, join(lower, 'folder')]) await chown(path, owner.uid, owner.gid)
  return lower
}

function probeSpec(worker: Owner, slot: Slot, image: string, mount: Mount): ContainerSpec {
  const { uid, gid } = ownerFor('user')
  return {
    ...HELPER,
    name: `agirunner-probe-${slot.id}`,
    image,
    command: ['/bin/sh', '-c', SCRIPT],
    labels: labelsOf(worker, 'helper', slot.id, image),
    user: `${uid}:${gid}`,
    readOnlyRoot: true,
    mounts: [mount],
  }
}
