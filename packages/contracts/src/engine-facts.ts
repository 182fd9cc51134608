import { z } from 'zod'
import type { Capability } from './names.js'

/** What an engine says of itself, as far as it bears on what it can enforce. */
export interface EngineFacts {
  /** The program that becomes process 1; null when the engine has none; undefined when it does not say. */
  readonly init: string | null | undefined
  readonly cgroupVersion: string
  readonly cgroupDriver: string
  readonly memoryLimit: boolean
  readonly swapLimit: boolean
  readonly cpuLimit: boolean
  readonly pidsLimit: boolean
  /** Such as `seccomp`, `apparmor`, `userns` or `rootless`. */
  readonly security: readonly string[]
  /** Names of its OCI runtimes. */
  readonly runtimes: readonly string[]
  readonly storageDriver: string
}

/** What a container of ours saw of its own cage; undefined is what it could not see. */
export interface CageSeen {
  /** The name of its process 1. */
  readonly init: string | undefined
  /** The kernel filters its calls, by the profile that it was given. */
  readonly filtered: boolean | undefined
  readonly noNewPrivileges: boolean | undefined
  readonly capabilities: string | undefined
  /** Whether the limit that it has is the one that it was given. */
  readonly memoryLimit: boolean | undefined
  readonly pidsLimit: boolean | undefined
  readonly cpuLimit: boolean | undefined
}

/** Without these a task could hurt its neighbours or could not be ended: a worker does not start. */
export const VITAL_CAPABILITIES: readonly string[] = [
  'init',
  'memory limit',
  'cpu limit',
  'pids limit',
  'seccomp',
  'privileges',
]

const InfoSchema = z.object({
  InitBinary: z.string().optional().catch(undefined),
  InitCommit: z.object({ ID: z.string().optional() }).nullish().catch(null),
  CgroupVersion: z.string().catch('1'),
  CgroupDriver: z.string().catch('unknown'),
  MemoryLimit: z.boolean().catch(false),
  SwapLimit: z.boolean().catch(false),
  CpuCfsQuota: z.boolean().catch(false),
  PidsLimit: z.boolean().catch(false),
  SecurityOptions: z.array(z.string()).nullish().catch(null),
  Runtimes: z.record(z.string(), z.unknown()).nullish().catch(null),
  Driver: z.string().catch('unknown'),
})

/** Reads the answer to `GET /info` of the Docker API. What an engine leaves out, it is taken not to have. */
export function readEngineFacts(answer: unknown): EngineFacts {
  const info = InfoSchema.parse(answer)
  return {
    init: initOf(info),
    cgroupVersion: info.CgroupVersion,
    cgroupDriver: info.CgroupDriver,
    memoryLimit: info.MemoryLimit,
    swapLimit: info.SwapLimit,
    cpuLimit: info.CpuCfsQuota,
    pidsLimit: info.PidsLimit,
    // "name=seccomp,profile=default", and plain "seccomp" of old engines.
    security: (info.SecurityOptions ?? []).map(text => text.replace(/^name=/, '').split(',')[0] ?? ''),
    runtimes: Object.keys(info.Runtimes ?? {}),
    storageDriver: info.Driver,
  }
}

/** Docker always names the program, and says N/A for the version of one that it could not run; Podman says nothing. */
function initOf({ InitBinary, InitCommit }: z.infer<typeof InfoSchema>): string | null | undefined {
  if (InitCommit?.ID === 'N/A') return null
  return InitBinary || undefined
}

/**
 * What an engine can enforce of a container's cage.
 *
 * @param seen what a container saw, where one could be tried; it counts more than what the engine says
 */
export function engineCapabilities(facts: EngineFacts, seen?: CageSeen): Capability[] {
  return [
    initCapability(facts, seen),
    limit('memory limit', 'memory', facts.memoryLimit, seen?.memoryLimit, facts),
    swapCapability(facts),
    limit('cpu limit', 'cpu', facts.cpuLimit, seen?.cpuLimit, facts),
    limit('pids limit', 'pids', facts.pidsLimit, seen?.pidsLimit, facts),
    seccompCapability(facts, seen),
    ...(seen?.noNewPrivileges === undefined ? [] : [privilegesCapability(seen)]),
    usersCapability(facts),
    macCapability(facts),
  ]
}

/** Names of what is missing and must not be. */
export function missingVitals(capabilities: readonly Capability[]): Capability[] {
  return capabilities.filter(({ name, state }) => state === 'missing' && VITAL_CAPABILITIES.includes(name))
}

const enforced = (name: string, detail: string): Capability => ({
  name,
  state: 'enforced',
  detail,
  fix: null,
})
const weaker = (name: string, detail: string, fix: string | null): Capability => ({
  name,
  state: 'weaker',
  detail,
  fix,
})
const missing = (name: string, detail: string, fix: string): Capability => ({
  name,
  state: 'missing',
  detail,
  fix,
})

/** What became process 1 of a container that was to have an init; tini is what docker-init and catatonit stand beside. */
const INIT_NAMES = /^(docker-init|tini|catatonit|podman-init|dumb-init)/

function initCapability({ init }: EngineFacts, seen?: CageSeen): Capability {
  const fix = 'install docker-init (the package tini, docker-init or docker.io) where the engine finds it'
  if (seen?.init !== undefined) {
    return INIT_NAMES.test(seen.init)
      ? enforced('init', `${seen.init} is process 1: it forwards signals and reaps`)
      : missing('init', `process 1 of a container is ${JSON.stringify(seen.init)} and no init`, fix)
  }
  if (init === null) return missing('init', 'the engine can not run its init: SIGTERM would be ignored', fix)
  if (init === undefined) return weaker('init', 'the engine does not say whether it has one', fix)
  return enforced('init', `${init} forwards signals and reaps`)
}

function limit(
  name: string,
  controller: string,
  said: boolean,
  seen: boolean | undefined,
  { cgroupVersion, cgroupDriver }: EngineFacts,
): Capability {
  const by = `cgroup v${cgroupVersion}, ${cgroupDriver}`
  const fix = `let the kernel and the engine use the ${controller} controller of cgroup v${cgroupVersion}`
  if (seen === false)
    return missing(name, `a container did not have the limit that it was given (${by})`, fix)
  if (!said) return missing(name, `the engine can not limit it (${by})`, fix)
  return enforced(
    name,
    seen ? `a container had the one that it was given (${by})` : `the engine has one (${by})`,
  )
}

function swapCapability({ swapLimit }: EngineFacts): Capability {
  if (swapLimit) return enforced('swap limit', 'a container gets no swap beside its memory')
  const detail = 'the engine can not count swap: a container may use it beside its memory'
  return weaker('swap limit', detail, 'switch swap off, or boot with swapaccount=1')
}

function seccompCapability({ security }: EngineFacts, seen?: CageSeen): Capability {
  const fix = 'use an engine and a kernel with seccomp, and no setting that switches it off'
  if (seen?.filtered === false) {
    return missing('seccomp', 'a container made system calls that the profile forbids', fix)
  }
  if (seen?.filtered) return enforced('seccomp', "the runtime's own profile, seen at work in a container")
  if (!security.includes('seccomp')) return missing('seccomp', 'the engine filters no system calls', fix)
  return enforced('seccomp', 'the engine filters system calls')
}

function privilegesCapability({ noNewPrivileges, capabilities }: CageSeen): Capability {
  const name = 'privileges'
  const fix = 'let the engine drop capabilities and set no_new_privs'
  if (!noNewPrivileges) return missing(name, 'a container could gain privileges by setuid files', fix)
  if (capabilities !== undefined && !/^0+$/.test(capabilities)) {
    return missing(name, `a container that was to have no capabilities had ${capabilities}`, fix)
  }
  return enforced(name, 'a container had no capabilities and could gain none')
}

function usersCapability({ security }: EngineFacts): Capability {
  if (security.includes('rootless')) return enforced('user namespace', 'the engine itself is not root')
  if (security.includes('userns'))
    return enforced('user namespace', 'root of a container is nobody on the host')
  const detail = 'root of a container is root on the host, without its capabilities'
  return weaker('user namespace', detail, 'use a rootless engine, or one with userns-remap')
}

function macCapability({ security }: EngineFacts): Capability {
  const found = ['apparmor', 'selinux'].filter(name => security.includes(name))
  if (found.length > 0)
    return enforced('kernel policy', `${found.join(' and ')}, with the engine's own policy`)
  return weaker('kernel policy', 'neither AppArmor nor SELinux: seccomp and capabilities alone', null)
}
