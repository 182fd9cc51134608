import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { isAlive } from '../../support/identity.js'
import { runProgram } from '../../support/program.js'
import type { Owner } from '../labels.js'
import {
  type CurrentFigures,
  type Figures,
  type ReadValue,
  readCurrentFigures,
  readFigures,
  readMemory,
  readOomKills,
} from './figures.js'
import { childOf, type Hierarchy, OpenValues, readdirOr, readValue } from './hierarchy.js'
import { loggedOomKills } from './kernel-log.js'

/** The group of all groups that workers make. It stays, as the engine's own does. */
const TOP = 'agirunner'

const WANTED = ['cpu', 'io', 'memory', 'pids']

/** The control group above one container's: made before it, read after it. */
export interface TaskGroup {
  /** What the engine is told as `CgroupParent`. */
  readonly parent: string
  /** What the engine is told as the container's own limit of processes. */
  readonly pids: number
  /** Whether its count of OOM kills is complete after the end; else it holds only what was seen while the container ran. */
  readonly countsOomKills: boolean
  /**
   * Finds the container's group, once it was started. Repeatable, at no cost once it was found.
   *
   * @returns the pid of one of its processes, null when none can be seen any more; `elsewhere` when the engine did not
   *   put it here, and the figures are not its
   */
  attach(containerId: string): number | null | 'elsewhere'
  read(): Figures
  /** Of `read`, what is lost with the container, at a tenth of its cost; null where `countsOomKills`. */
  readOomKills(): number | null
  /** In bytes; null where `countsOomKills`, for nobody needs it then. */
  readMemory(): number | null
  /** For who looks at the container now. */
  readCurrent(): CurrentFigures
  /** The OOM kills in it that the kernel has logged; it does not log every one. */
  loggedOomKills(): number
  /** Closes the files that `read`, `readOomKills` and `readMemory` keep open. Repeatable; they open them again. */
  rest(): void
  /** Repeatable. @throws Error when the container is still in it */
  remove(): Promise<void>
}

/** Makes groups, and removes those of dead workers. */
export interface TaskGroups {
  make(slot: string, limits: { pids: number }): Promise<TaskGroup>
  /** The group that a worker, by its id, made for a slot. */
  open(slot: string, worker: string, limits: { pids: number }): TaskGroup
  /** @param spared slots that somebody has taken over @returns how many groups of dead workers were removed */
  reap(spared?: (slot: string) => boolean): Promise<number>
  /** Removes the group of a slot of this worker's that outlasted its task; its container must be gone. */
  drop(slot: string): Promise<void>
}

/** How an engine's cgroup driver names groups, and who makes their folders. */
interface Naming {
  /** The folder below a root in which all are. */
  readonly top: string
  /** The `CgroupParent`, and the folder below a root that it stands for. */
  readonly place: (name: string) => { parent: string; folder: string }
  readonly make: (name: string, pids: number) => Promise<void>
  readonly remove: (name: string) => Promise<void>
  /** Whether the limit of processes lies on a group of ours, above the one whose peak is read. */
  readonly limited: boolean
}

/**
 * @param driver `cgroupfs`: groups are folders, and ours to make. `systemd`: they are slices, and systemd's
 * @param systemctl the program that speaks to systemd
 */
export function taskGroups(
  driver: 'cgroupfs' | 'systemd',
  hierarchy: Hierarchy,
  owner: Owner,
  systemctl = 'systemctl',
): TaskGroups {
  const naming = driver === 'systemd' ? systemdNaming(systemctl) : cgroupfsNaming(hierarchy)
  return {
    make: async (slot, { pids }) => {
      const name = groupName(owner, slot)
      await naming.make(name, pids)
      return taskGroup(hierarchy, naming, name, pids)
    },
    open: (slot, worker, { pids }) =>
      taskGroup(hierarchy, naming, groupName({ ...owner, worker }, slot), pids),
    drop: slot => naming.remove(groupName(owner, slot)),
    reap: async (spared = () => false) => {
      let removed = 0
      for (const entry of readdirOr(join(hierarchy.roots.pids, naming.top))) {
        const name = /([^-]+)\.slice$/.exec(entry)?.[1] ?? entry
        if (!isOrphan(name, owner, spared)) continue
        // A container that is still in it goes first; the next round takes the group.
        removed += await naming.remove(name).then(
          () => 1,
          () => 0,
        )
      }
      return removed
    },
  }
}

function taskGroup(hierarchy: Hierarchy, naming: Naming, name: string, pids: number): TaskGroup {
  const { parent, folder } = naming.place(name)
  const pidsLimit = naming.limited ? pids : null
  let live: string | null = null
  let pid: number | null = null
  const values = new OpenValues()
  const from: ReadValue = (group, file) => values.read(group, file)
  return {
    parent,
    // One more than the limit of the group above: the attempt to pass that one then shows in the peak between the two.
    pids: naming.limited ? pids + 1 : pids,
    countsOomKills: hierarchy.version === 2,
    attach: containerId => {
      if (pid !== null) return pid
      const root = hierarchy.roots.pids
      const found = childOf(root + folder, containerId)
      if (found === null) return hasRun(hierarchy, folder) ? null : 'elsewhere'
      live = found.slice(root.length)
      pid = firstPid(found)
      return pid
    },
    read: () => readFigures(hierarchy, { kept: folder, live, pidsLimit }, from),
    readCurrent: () => readCurrentFigures(hierarchy, folder),
    readOomKills: () => (live === null ? null : readOomKills(hierarchy, live, from)),
    readMemory: () => readMemory(hierarchy, folder, from),
    loggedOomKills: () => loggedOomKills(folder),
    rest: () => values.close(),
    remove: async () => {
      values.close()
      await naming.remove(name)
    },
  }
}

/** A container that has ended left the time that it took. */
function hasRun(hierarchy: Hierarchy, folder: string): boolean {
  const { cpuNs } = readFigures(hierarchy, { kept: folder, live: null, pidsLimit: null }, readValue)
  return (cpuNs ?? 0) > 0
}

/** 0 stands for a process that this one can't see, having other pids. */
function firstPid(folder: string): number | null {
  try {
    const pid = Number(readFileSync(join(folder, 'cgroup.procs'), 'latin1').split('\n')[0])
    return pid > 0 ? pid : null
  } catch {
    return null
  }
}

/** `<host>.<worker>.<slot>`, with `_` for `-`, which systemd reads as a border between slices. */
function groupName(owner: Owner, slot: string): string {
  return [owner.host, owner.worker, slot].join('.').replaceAll('-', '_')
}

function isOrphan(name: string, owner: Owner, spared: (slot: string) => boolean): boolean {
  const [host, worker, slot = ''] = name.replaceAll('_', '-').split('.')
  if (host !== owner.host || worker === undefined || !/^w-\d+-\d+-/.test(worker)) return false
  return !isAlive(worker) && !spared(slot)
}

/**
 * `/agirunner/<name>/in`: `<name>` has the limit of processes and `in` none, so that the peak of `in` counts an attempt that
 * `<name>` refused. The engine makes the other hierarchies' folders.
 */
function cgroupfsNaming({ version, roots, all }: Hierarchy): Naming {
  return {
    top: `/${TOP}`,
    limited: true,
    place: name => ({ parent: `/${TOP}/${name}/in`, folder: `/${TOP}/${name}/in` }),
    make: async (name, pids) => {
      const group = join(roots.pids, TOP, name)
      mkdirSync(group, { recursive: true })
      if (version === 2) passOn([roots.pids, join(roots.pids, TOP), group])
      writeFileSync(join(group, 'pids.max'), String(pids))
      mkdirSync(join(group, 'in'))
      if (version === 2) passOn([join(group, 'in')])
    },
    remove: async name => {
      for (const root of all)
        for (const folder of [join(root, TOP, name, 'in'), join(root, TOP, name)]) removeGroup(folder)
    },
  }
}

/** In version 2 a group has the controllers that its parent passes on. */
function passOn(groups: readonly string[]): void {
  for (const group of groups) {
    const there = readValue(group, 'cgroup.controllers')?.split(' ') ?? []
    const wanted = WANTED.filter(controller => there.includes(controller)).map(controller => `+${controller}`)
    writeFileSync(join(group, 'cgroup.subtree_control'), wanted.join(' '))
  }
}

function removeGroup(folder: string): void {
  try {
    rmdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** systemd lets nobody else make groups, and forgets a slice with its last unit unless it was started by name. */
function systemdNaming(systemctl: string): Naming {
  const unit = (name: string) => `${TOP}-${name}.slice`
  return {
    top: `/${TOP}.slice`,
    limited: false,
    place: name => ({ parent: unit(name), folder: `/${TOP}.slice/${unit(name)}` }),
    make: async name => void (await runProgram(systemctl, ['start', unit(name)], { timeout: 10_000 })),
    remove: async name => void (await runProgram(systemctl, ['stop', unit(name)], { timeout: 10_000 })),
  }
}
