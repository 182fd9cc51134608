import type { ContainerInspectInfo } from 'dockerode'
import type { EngineInfo } from '../engine/engine.js'

export const PROFILES = ['user', 'root'] as const
export type Profile = (typeof PROFILES)[number]

/** A running container, and what it runs on. */
export interface Bench {
  readonly inspect: ContainerInspectInfo
  /** Fields that the types of dockerode lack. */
  readonly host: ContainerInspectInfo['HostConfig'] & Record<string, unknown>
  /** Command lines of the container's processes. */
  readonly processes: readonly string[]
  readonly info: EngineInfo
  readonly dataDir: string
}

export interface Check {
  readonly number: string
  /** What a container should be like, in our words. */
  readonly asks: string
  readonly holds: (bench: Bench) => boolean
  /** Profiles for which it does not hold, and why that is right. */
  readonly waived?: Partial<Record<Profile, string>>
}

const everyone = (why: string) => ({ user: why, root: why })
const ROOT_CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'SETGID', 'SETUID']

/** Section 5, "container runtime", of the CIS Docker Benchmark, by the numbers of docker-bench-security. */
export const CHECKS: readonly Check[] = [
  {
    number: '5.1',
    asks: 'an AppArmor profile, where the kernel has AppArmor',
    holds: ({ inspect, info }) =>
      !info.facts.security.includes('apparmor') || inspect.AppArmorProfile === 'docker-default',
  },
  {
    number: '5.2',
    asks: 'SELinux as the engine sets it, where the kernel has it',
    holds: ({ host }) => !(host.SecurityOpt as string[]).some(option => option.startsWith('label')),
  },
  {
    number: '5.3',
    asks: 'no capability that is not needed',
    holds: ({ host, inspect }) => {
      const added = (host.CapAdd ?? []) as string[]
      const right = inspect.Config.User === '0:0' ? ROOT_CAPABILITIES : []
      return String(host.CapDrop) === 'ALL' && String(added.toSorted()) === String(right)
    },
  },
  { number: '5.4', asks: 'not privileged', holds: ({ host }) => host.Privileged === false },
  {
    number: '5.5',
    asks: 'no folder of the host but its own',
    holds: ({ inspect, dataDir }) =>
      inspect.Mounts.every(mount => mount.Type === 'volume' || mount.Source.startsWith(`${dataDir}/slots/`)),
  },
  {
    number: '5.6',
    asks: 'no SSH server in it',
    holds: ({ processes }) => !processes.some(line => /sshd/.test(line)),
  },
  { number: '5.7', asks: 'no privileged port mapped', holds: hasNoPorts },
  { number: '5.8', asks: 'no port open that is not needed', holds: hasNoPorts },
  {
    number: '5.9',
    asks: "not in the host's network",
    holds: ({ host }) => host.NetworkMode !== 'host',
  },
  {
    number: '5.10',
    asks: 'memory limited, without swap beside it',
    holds: ({ host }) => (host.Memory ?? 0) > 0 && host.MemorySwap === host.Memory,
  },
  { number: '5.11', asks: 'processor time limited', holds: ({ host }) => (host.NanoCpus ?? 0) > 0 },
  {
    number: '5.12',
    asks: 'a read-only root file system',
    holds: ({ host }) => host.ReadonlyRootfs === true,
    waived: { root: 'installing packages is what it is for; it goes with the container' },
  },
  { number: '5.13', asks: 'ports bound to one address of the host', holds: hasNoPorts },
  {
    number: '5.14',
    asks: 'restarted five times at most',
    holds: ({ host }) => host.RestartPolicy?.Name === 'no',
  },
  { number: '5.15', asks: "not in the host's process namespace", holds: ({ host }) => host.PidMode === '' },
  {
    number: '5.16',
    asks: "not in the host's IPC namespace",
    holds: ({ host }) => host.IpcMode === 'private',
  },
  {
    number: '5.17',
    asks: 'no device of the host',
    holds: ({ host }) => [host.Devices, host.DeviceRequests, host.DeviceCgroupRules].every(isNothing),
  },
  {
    number: '5.18',
    asks: 'the default ulimits, where there is no reason for others',
    holds: ({ host }) =>
      JSON.stringify(host.Ulimits?.map(({ Name, Hard }) => [Name, Hard])) === '[["nofile",4096],["core",0]]',
  },
  {
    number: '5.19',
    asks: 'mounts that lead nothing back to the host',
    holds: ({ inspect }) => inspect.Mounts.every(({ Propagation }) => !/^r?shared$/.test(Propagation)),
  },
  { number: '5.20', asks: "not in the host's UTS namespace", holds: ({ host }) => host.UTSMode === '' },
  {
    number: '5.21',
    asks: 'system calls filtered',
    holds: ({ host }) =>
      (host.SecurityOpt as string[]).some(option =>
        option.startsWith('seccomp={"defaultAction":"SCMP_ACT_ERRNO"'),
      ),
  },
  { number: '5.22', asks: 'no privileged exec into it', holds: ({ inspect }) => isNothing(inspect.ExecIDs) },
  { number: '5.23', asks: 'no exec into it as root', holds: ({ inspect }) => isNothing(inspect.ExecIDs) },
  {
    number: '5.24',
    asks: "in a cgroup of the engine's or of ours",
    holds: ({ host }) => /^(|\/?agirunner.*)$/.test(String(host.CgroupParent)),
  },
  {
    number: '5.25',
    asks: 'no privileges to be gained',
    holds: ({ host }) => (host.SecurityOpt as string[]).includes('no-new-privileges'),
  },
  {
    number: '5.26',
    asks: 'its health checked by the engine',
    holds: ({ inspect }) => String(inspect.Config.Healthcheck?.Test) !== 'NONE',
    waived: everyone(
      "a task runs once, and the worker watches it; an image's own check would run past the gate",
    ),
  },
  {
    number: '5.27',
    asks: 'the newest version of its image',
    holds: () => false,
    waived: everyone('the image is the choice of who sends the task; each result tells its digest'),
  },
  { number: '5.28', asks: 'processes limited', holds: ({ host }) => (host.PidsLimit ?? 0) > 0 },
  {
    number: '5.29',
    asks: "not on the engine's default bridge",
    holds: ({ host }) => /^(none|agirunner-.+)$/.test(host.NetworkMode ?? ''),
  },
  {
    number: '5.30',
    asks: "not in the host's user namespace, where the engine has others",
    holds: ({ host }) => host.UsernsMode === '',
  },
  {
    number: '5.31',
    asks: "not the engine's socket",
    holds: ({ inspect }) => inspect.Mounts.every(({ Source }) => !/docker|containerd|\.sock$/.test(Source)),
  },
]

function isNothing(list: unknown): boolean {
  return list === null || list === undefined || (Array.isArray(list) && list.length === 0)
}

function hasNoPorts({ inspect, host }: Bench): boolean {
  const open = { ...inspect.NetworkSettings.Ports, ...(host.PortBindings as object) }
  return Object.keys(open).length === 0 && host.PublishAllPorts === false
}
