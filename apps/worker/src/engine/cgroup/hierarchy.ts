import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import { join } from 'node:path'

/** What the runtime reads of a control group. */
export type Controller = 'cpu' | 'memory' | 'pids' | 'io'

/** Where the kernel shows control groups on this machine. */
export interface Hierarchy {
  readonly version: 1 | 2
  /** The folder of the root group, by controller; with version 2 all are the same one. */
  readonly roots: Readonly<Record<Controller, string>>
  /** Every root in which an engine makes a folder for a container. */
  readonly all: readonly string[]
}

/** Version 1 has two controllers for what version 2 has one. */
const NAMES_V1: Readonly<Record<Controller, string>> = {
  cpu: 'cpuacct',
  memory: 'memory',
  pids: 'pids',
  io: 'blkio',
}

interface CgroupMount {
  readonly folder: string
  readonly type: string
  readonly options: readonly string[]
}

/**
 * Reads where control groups are mounted.
 *
 * @param version which of the two the engine uses; a machine may have both mounted
 * @param mountinfo the text of /proc/self/mountinfo
 * @returns null where they are not, or where only a part of them can be seen
 */
export function readHierarchy(version: 1 | 2, mountinfo: string): Hierarchy | null {
  const mounts = cgroupMounts(mountinfo)
  const unified = mounts.find(({ type }) => type === 'cgroup2')
  if (version === 2) return unified ? hierarchyV2(unified.folder) : null
  const rootOf = (controller: string) => mounts.find(({ options }) => options.includes(controller))?.folder
  const [cpu, memory, pids, io] = [
    rootOf(NAMES_V1.cpu),
    rootOf(NAMES_V1.memory),
    rootOf(NAMES_V1.pids),
    rootOf(NAMES_V1.io),
  ]
  if (!cpu || !memory || !pids || !io) return null
  return { version, roots: { cpu, memory, pids, io }, all: [...new Set(mounts.map(({ folder }) => folder))] }
}

function hierarchyV2(root: string): Hierarchy {
  return { version: 2, roots: { cpu: root, memory: root, pids: root, io: root }, all: [root] }
}

/** Fields as proc(5) has them: id, parent, device, root, mount point, options, optional fields, `-`, type, source, super options. */
function cgroupMounts(mountinfo: string): CgroupMount[] {
  return mountinfo.split('\n').flatMap(line => {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , root, folder = ''] = before.split(' ')
    const [type = '', , options = ''] = after.split(' ')
    // What is mounted from below the root is a part of it that a container was given.
    return /^cgroup2?$/.test(type) && root === '/' ? [{ folder, type, options: options.split(',') }] : []
  })
}

/** The group of one container below its parent: engines name it by the id, some with more around it. */
export function childOf(folder: string, containerId: string): string | null {
  const name = readdirOr(folder).find(entry => entry.includes(containerId))
  return name === undefined ? null : join(folder, name)
}

/** The names in a folder; none when it is not there. */
export function readdirOr(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** A file of a group, without its last newline; null when there is no such file, or no such group any more. */
export function readValue(folder: string, file: string): string | null {
  try {
    return readFileSync(join(folder, file), 'latin1').trimEnd()
  } catch {
    return null
  }
}

/** No file of a group that is read often comes near it, in bytes. */
const MOST_BYTES = 64 * 1024
const bytes = Buffer.alloc(MOST_BYTES)

/**
 * Files of a group that are read again and again. They stay open: to read one then takes a tenth of what it takes to open it
 * as well, and the kernel removes a group all the same.
 */
export class OpenValues {
  readonly #files = new Map<string, number>()

  /** As `readValue`. */
  read(folder: string, file: string): string | null {
    try {
      const path = `${folder}/${file}`
      const opened = this.#files.get(path) ?? openSync(path, 'r')
      this.#files.set(path, opened)
      return bytes.toString('latin1', 0, readSync(opened, bytes, 0, MOST_BYTES, 0)).trimEnd()
    } catch {
      return null
    }
  }

  /** Repeatable; what is read after it is opened again. */
  close(): void {
    for (const file of this.#files.values()) closeSync(file)
    this.#files.clear()
  }
}
