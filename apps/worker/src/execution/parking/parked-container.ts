import { closeSync, constants, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { parseImageReference, TaskFailure } from '@agirunner/contracts'
import type { TaskGroup, TaskGroups } from '../../engine/cgroup/task-groups.js'
import type { ContainerEngine, EngineInfo, ImageInfo } from '../../engine/engine.js'
import type { Owner } from '../../engine/labels.js'
import { makeFifo } from '../../support/libc.js'
import { type Releasable, ReleaseStack, sleep } from '../../support/lifecycle.js'
import type { Roster } from '../../support/roster.js'
import type { Slot } from '../../workspace/plan.js'
import type { Workspaces } from '../../workspace/workspaces.js'
import { containerSpec, limitsOf } from '../container-spec.js'
import { PARKED_SCRIPT, SCRIPT_FILE } from '../gate.js'
import { digestOf } from '../images/names.js'
import type { Networks, ReservedNetwork } from '../network/networks.js'
import { keyOf, type Shape } from '../shape.js'

export interface ParkingOptions {
  readonly engine: ContainerEngine
  readonly info: EngineInfo
  readonly owner: Owner
  readonly networks: Networks
  readonly groups: TaskGroups | null
  readonly roster: Roster
  readonly makeSlot: Workspaces['makeSlot']
}

/** A container that has been started and waits at its gate for a task of its shape. It is used once. */
export interface ParkedContainer extends Releasable {
  readonly key: string
  readonly shape: Shape
  readonly imageId: string
  readonly id: string
  readonly slot: Slot
  readonly network: ReservedNetwork
  /** Null where this worker can't make control groups. The container was found in it already. */
  readonly group: TaskGroup | null
  /** In milliseconds since 1970. */
  readonly parkedAt: number
  /** Lets it run the script that lies beside its gate. @throws Error when nobody waits at the gate any more */
  open(): void
  /** Removes the container and its control group, and leaves its slot and network. */
  discard(): Promise<void>
}

/** How long a started container may take to reach its gate, in milliseconds. */
const GATE_MS = 10_000
const LOOK_MS = 5

/**
 * Makes and starts a container without a task. Nothing of it is left when this throws.
 *
 * @throws TaskFailure `container.*`, `engine.unavailable`, `environment.unsupported`; Error when there is no room
 */
export async function park(
  options: ParkingOptions,
  shape: Shape,
  image: ImageInfo,
): Promise<ParkedContainer> {
  const made = new ReleaseStack(() => undefined)
  try {
    return await parkIn(made, options, shape, image)
  } catch (error) {
    await made.all()
    throw error
  }
}

async function parkIn(
  made: ReleaseStack,
  { engine, info, owner, networks, groups, roster, makeSlot }: ParkingOptions,
  shape: Shape,
  image: ImageInfo,
): Promise<ParkedContainer> {
  const { profile, resources, secrets } = shape
  const {
    slot,
    delivery,
    owner: user,
    remove,
  } = await makeSlot({ profile, diskBytes: resources.disk, secrets })
  made.defer('slot', remove)
  const network = made.own(await networks.reserve(shape.network), 'network')
  const group = (await groups?.make(slot.id, resources)) ?? null
  if (group) made.defer('group', () => group.remove())
  const gate = join(slot.gate, SCRIPT_FILE)
  await makeFifo(gate, 0o644)
  const name = `agirunner-parked-${slot.id}`
  const id = await engine.create({
    ...containerSpec(shape, {
      name,
      kind: 'parked',
      slot,
      user,
      delivery,
      readOnly: false,
      owner,
      image,
      engine: info,
      network,
    }),
    ...(group ? { cgroupParent: group.parent, pids: group.pids } : {}),
  })
  made.defer('container', () => engine.remove(id))
  const { reference, network: mode } = shape
  roster.describe(id, {
    name,
    kind: 'parked',
    taskId: null,
    attempt: null,
    tenantId: null,
    labels: {},
    image: reference,
    imageDigest: digestOf(parseImageReference(reference), image),
    network: mode,
    limits: { ...limitsOf(resources, info), pids: resources.pids },
    use: () => group?.readCurrent() ?? null,
  })
  await engine.start(id)
  const writer = await reachGate(gate)
  group?.attach(id)
  let fd: number | null = writer
  const shut = () => {
    if (fd !== null) closeSync(fd)
    fd = null
  }
  made.defer('gate', async () => shut())
  return {
    key: keyOf(shape),
    shape,
    imageId: image.id,
    id,
    slot,
    network,
    group,
    parkedAt: Date.now(),
    open: () => {
      try {
        if (fd === null) throw new Error('its gate is shut')
        writeSync(fd, PARKED_SCRIPT)
      } finally {
        shut()
      }
    },
    discard: async () => {
      shut()
      await engine.remove(id)
      await group?.remove()
    },
    release: () => made.all(),
  }
}

/**
 * Waits until the container's shell opens its gate to read. The gate is held open from then on: with this process the
 * container ends.
 */
async function reachGate(path: string): Promise<number> {
  for (let waited = 0; waited < GATE_MS; waited += LOOK_MS) {
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error
      await sleep(LOOK_MS)
    }
  }
  throw new TaskFailure('container.start_failed', `the container did not reach its gate within ${GATE_MS} ms`)
}
