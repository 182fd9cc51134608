import { readFileSync, readlinkSync } from 'node:fs'
import type { Capability } from '@agirunner/contracts'
import { messageOf } from '../../support/log.js'
import type { EngineInfo } from '../engine.js'
import type { Owner } from '../labels.js'
import { isLocalEngine } from '../local.js'
import { readHierarchy } from './hierarchy.js'
import { type TaskGroups, taskGroups } from './task-groups.js'

/** The inode of the first cgroup namespace (PROC_CGROUP_INIT_INO in Linux): whoever is in it sees every group. */
const FIRST_NAMESPACE = 'cgroup:[4026531835]'

export interface OpenGroupsOptions {
  readonly info: EngineInfo
  readonly owner: Owner
  /** Where the engine is, as in DOCKER_HOST; null for the default socket. */
  readonly host: string | null
}

/**
 * Finds out whether this worker may make control groups for its containers, by making one.
 *
 * @returns null in place of the groups where it may not; usage is then asked of the engine, now and then
 */
export async function openTaskGroups(
  options: OpenGroupsOptions,
): Promise<{ groups: TaskGroups | null; capability: Capability }> {
  const opened = await tryOpen(options)
  if (typeof opened === 'string') {
    return {
      groups: null,
      capability: {
        name: 'usage',
        state: 'weaker',
        detail: `figures are asked of the engine once a second, because ${opened}`,
        fix: "run the worker as root on the engine's machine, outside of containers",
      },
    }
  }
  const { cgroupVersion, cgroupDriver } = options.info
  const detail = `read from a control group of each task's own, version ${cgroupVersion} by ${cgroupDriver}`
  return { groups: opened, capability: { name: 'usage', state: 'enforced', detail, fix: null } }
}

/** @returns why not, as the end of a sentence */
async function tryOpen({ info, owner, host }: OpenGroupsOptions): Promise<TaskGroups | string> {
  if (process.getuid?.() !== 0) return 'the worker is not root'
  if (!isLocalEngine(host)) return 'the engine may be on another machine'
  const { cgroupDriver: driver, cgroupVersion } = info
  if (driver !== 'cgroupfs' && driver !== 'systemd') return `the engine's cgroup driver is ${driver}`
  try {
    if (readlinkSync('/proc/self/ns/cgroup') !== FIRST_NAMESPACE)
      return 'the worker is in a cgroup namespace of its own'
    const mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')
    const hierarchy = readHierarchy(cgroupVersion === '2' ? 2 : 1, mountinfo)
    if (hierarchy === null) return `control groups of version ${cgroupVersion} are not mounted here`
    const groups = taskGroups(driver, hierarchy, owner)
    const tried = await groups.make('probe', { pids: 1 })
    await tried.remove()
    return groups
  } catch (error) {
    return `a control group can't be made here: ${messageOf(error)}`
  }
}
