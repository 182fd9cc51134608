import { randomUUID } from 'node:crypto'
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerEngine } from '../engine/engine.js'
import { labelsOf, type Owner } from '../engine/labels.js'
import { whyNoPrivateMounts } from './children/private-mounts.js'
import { isMountable, makeLayers, makeMount, volumeName } from './layers.js'
import type { Strategy } from './plan.js'
import { removeTree } from './remove-tree.js'
import { isRoot, makeSlot, ownerFor } from './slots.js'

export interface ProbeOptions {
  /** An image with `/bin/sh` and coreutils. */
  readonly image: string
  readonly owner: Owner
  readonly dataDir: string
}

const PROBE_MS = 30_000
/** Reads the lower layer, and moves a folder of it: EXDEV without redirect_dir. */
const SCRIPT = 'cd /workspace/repo && read -r line <folder/file && mv folder moved && echo "$line" >answer'

/**
 * Finds out how repositories can get into containers here, by running one. Leaves nothing behind.
 *
 * @returns the best strategy that works, and why it is that one
 */
export async function probeStrategy(
  engine: ContainerEngine,
  options: ProbeOptions,
): Promise<{ strategy: Strategy; why: string }> {
  const why = await whyNoOverlay(engine, options)
  if (why === null) return { strategy: 'overlay_volume', why: 'a container wrote through an overlay volume' }
  return { strategy: 'copy', why: `no overlay; ${why}` }
}

async function whyNoOverlay(engine: ContainerEngine, options: ProbeOptions): Promise<string | null> {
  if (!isRoot()) return 'the worker is not root'
  if (!isMountable(options.dataDir)) return `the path of ${options.dataDir} can't stand in mount options`
  await mkdir(options.dataDir, { recursive: true, mode: 0o711 })
  const mounts = await whyNoPrivateMounts(options.dataDir)
  if (mounts !== null) return `the worker can't mount; ${mounts}`
  if ((await engine.image(options.image)) === null) return `image ${options.image} is not there to try it`
  try {
    return await tryVolume(engine, options)
  } catch (error) {
    return (error as Error).message
  }
}

/** @returns null when the container's writes arrived in our layer */
async function tryVolume(
  engine: ContainerEngine,
  { image, owner: worker, dataDir }: ProbeOptions,
): Promise<string | null> {
  const owner = ownerFor('user')
  const slot = await makeSlot(dataDir, worker, owner)
  let id: string | null = null
  try {
    const lower = join(slot.root, 'lower')
    await mkdir(join(lower, 'folder'), { recursive: true })
    await chown(join(lower, 'folder'), owner.uid, owner.gid)
    const secret = randomUUID()
    await writeFile(join(lower, 'folder/file'), `${secret}\n`)
    const layers = await makeLayers('overlay_volume', slot, lower, owner, AbortSignal.timeout(PROBE_MS))
    const mount = await makeMount(engine, worker, slot, layers)
    id = await engine.create({
      name: `agirunner-probe-${slot.id}`,
      image,
      command: ['/bin/sh', '-c', SCRIPT],
      env: [],
      labels: labelsOf(worker, 'helper', slot.id, image),
      user: `${owner.uid}:${owner.gid}`,
      readOnlyRoot: true,
      capabilities: [],
      mounts: [{ ...mount, target: '/workspace/repo', readOnly: false }],
      tmpfs: {},
      cpus: 1,
      memoryBytes: 64 * 2 ** 20,
      pids: 16,
      shmBytes: 2 ** 20,
      network: 'none',
      runtime: null,
    })
    await engine.start(id)
    const exit = await engine.exit(id, AbortSignal.timeout(PROBE_MS))
    if (exit.exitCode !== 0) return `the container ended with ${exit.exitCode}`
    const answer = await readFile(join(slot.root, 'upper/answer'), 'utf8')
    return answer.trim() === secret ? null : 'the container wrote elsewhere'
  } finally {
    if (id !== null) await engine.remove(id)
    await engine.removeVolume(volumeName(slot))
    await removeTree(slot.root)
  }
}
