import { isIP } from 'node:net'
import { posix } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import { z } from 'zod'
import { SECURITY_OPTIONS } from './security-options.js'

/** What an engine's owner lets containers have. */
export interface Allowed {
  /** Folders of the host below which, and not of which themselves, a container may see something. */
  readonly bindRoots: readonly string[]
  /** OCI runtimes that may be asked for by name. */
  readonly runtimes: readonly string[]
}

/** The most that a container can be given; the profile `root` has them all. */
const CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'SETUID', 'SETGID'] as const
/** Names of containers, volumes and networks that are ours. */
const OUR_NAME = /^agirunner-[A-Za-z0-9][A-Za-z0-9_.-]{0,200}$/
const CGROUP = /^\/?agirunner[A-Za-z0-9_.-]*(\/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$/
/** Where in a container nothing may be mounted: what the engine and the kernel put there themselves. */
const RESERVED = /^\/(proc|sys|dev|etc|bin|sbin|lib|lib32|lib64|libx32|usr|boot)(\/|$)/
const TMPFS_OPTIONS = /^rw,(exec|noexec),nosuid,nodev,(mode=[0-7]{3,4},)?size=[1-9]\d{0,15}$/
/** A page: tmpfs and /dev/shm take less than that for "no limit" or for a size of their own. */
const MIN_BYTES = 4096

const no = z.literal(false)
const exactly = (...values: readonly string[]) => z.tuple(values.map(value => z.literal(value)) as never)
const positive = z.number().int().safe().positive()

const isAbsolute = (path: string) => path.startsWith('/') && posix.normalize(path) === path && path !== '/'
const isBelow = (root: string, path: string) =>
  isAbsolute(path) && path.startsWith(`${posix.join(root, '/')}`) && !path.endsWith('/')

/** Also where an image declares a volume: an empty folder hides what the image has there and gives nothing. */
const isTmpfsTarget = (path: string) => isAbsolute(path) && !/^\/(proc|sys|dev)(\/|$)/.test(path)

function mountsOf({ bindRoots }: Allowed) {
  const target = z
    .string()
    .refine(
      path => isAbsolute(path) && !path.endsWith('/') && !RESERVED.test(path),
      'is no target for a mount',
    )
  const source = z
    .string()
    .refine(path => bindRoots.some(root => isBelow(root, path)), 'is not below the folders that may be bound')
  const bind = z.strictObject({
    Type: z.literal('bind'),
    Source: source,
    Target: target,
    ReadOnly: z.boolean(),
    // From the host to the container, never the other way.
    BindOptions: z.strictObject({ Propagation: z.literal('rslave') }).optional(),
  })
  const volume = z.strictObject({
    Type: z.literal('volume'),
    Source: z.string().regex(OUR_NAME),
    Target: target,
    ReadOnly: z.boolean(),
    VolumeOptions: z.strictObject({ NoCopy: z.literal(true) }),
  })
  // The engine keeps the propagation of a bind to itself ("rprivate") unless it is told otherwise.
  const resolver = bind.extend({ Target: z.literal('/etc/resolv.conf'), ReadOnly: z.literal(true) })
  return z.array(z.union([bind, volume, resolver])).max(64)
}

function hostConfigOf(allowed: Allowed) {
  return z.strictObject({
    Init: z.literal(true),
    AutoRemove: no,
    RestartPolicy: z.strictObject({ Name: z.literal('no') }),
    LogConfig: z.strictObject({ Type: z.literal('none'), Config: z.strictObject({}) }),
    NetworkMode: z.union([z.literal('none'), z.string().regex(OUR_NAME)]),
    IpcMode: z.literal('private'),
    CgroupnsMode: z.literal('private'),
    ReadonlyRootfs: z.boolean(),
    CapDrop: exactly('ALL'),
    CapAdd: z.array(z.enum(CAPABILITIES)).max(CAPABILITIES.length),
    SecurityOpt: exactly(...SECURITY_OPTIONS),
    Memory: positive,
    MemorySwap: positive,
    NanoCpus: positive,
    PidsLimit: positive,
    ShmSize: positive.min(MIN_BYTES),
    OomScoreAdj: z.literal(500),
    Ulimits: z.tuple([
      z.strictObject({ Name: z.literal('nofile'), Soft: z.literal(4096), Hard: z.literal(4096) }),
      z.strictObject({ Name: z.literal('core'), Soft: z.literal(0), Hard: z.literal(0) }),
    ]),
    Tmpfs: z.record(z.string().refine(isTmpfsTarget), z.string().regex(TMPFS_OPTIONS)),
    Mounts: mountsOf(allowed),
    Runtime: z.enum([...allowed.runtimes] as [string, ...string[]]).optional(),
    CgroupParent: z.string().regex(CGROUP).optional(),
    Dns: z
      .array(z.string().refine(address => isIP(address) !== 0, 'is no address'))
      .max(3)
      .optional(),
    DnsSearch: z
      .array(z.string().regex(/^[A-Za-z0-9.-]{1,253}$/))
      .max(6)
      .optional(),
    DnsOptions: z
      .array(z.string().regex(/^[a-z0-9-]+(:\d+)?$/))
      .max(6)
      .optional(),
    Sysctls: z
      .partialRecord(z.string().regex(/^net\.ipv6\.conf\.[a-z0-9]+\.disable_ipv6$/), z.literal('1'))
      .optional(),
  })
}

function bodyOf(allowed: Allowed) {
  return z
    .strictObject({
      name: z.string().regex(OUR_NAME),
      Image: z.string().regex(/^\S+$/),
      Entrypoint: exactly(),
      Cmd: z.array(z.string()).min(1),
      Env: z.array(z.string().regex(/^[^=\0]+=[^\0]*$/)),
      Labels: z.record(z.string().regex(/^agirunner\./), z.string()),
      User: z.string().regex(/^\d{1,10}:\d{1,10}$/),
      WorkingDir: z.literal('/'),
      Hostname: z.literal('task'),
      AttachStdin: no,
      AttachStdout: no,
      AttachStderr: no,
      OpenStdin: no,
      Tty: no,
      NetworkDisabled: z.boolean(),
      Healthcheck: z.strictObject({ Test: exactly('NONE') }),
      HostConfig: hostConfigOf(allowed),
    })
    .superRefine((body, context) => {
      const host = body.HostConfig
      const wrong = (key: string, message: string) =>
        context.addIssue({ code: 'custom', path: key.split('.'), message })
      if (host.MemorySwap !== host.Memory) wrong('HostConfig.MemorySwap', 'is not equal to Memory')
      if (body.NetworkDisabled !== (host.NetworkMode === 'none'))
        wrong('NetworkDisabled', 'contradicts HostConfig.NetworkMode')
      if (new Set(host.CapAdd).size !== host.CapAdd.length) wrong('HostConfig.CapAdd', 'names one twice')
      if (body.User === '0:0') return
      if (host.CapAdd.length > 0) wrong('HostConfig.CapAdd', 'is for root only')
      if (!host.ReadonlyRootfs) wrong('HostConfig.ReadonlyRootfs', 'may be false for root only')
    })
}

/**
 * The last look at what is sent to the engine: a body that has a key, or a value, which no container of the runtime may
 * have is a fault of the runtime's own, and is never sent.
 *
 * @returns a check that gives back a copy, as JSON would carry it and with nothing that was not looked at
 * @throws from the check: TaskFailure `container.create_failed` that names every such key
 */
export function bodyCheck(allowed: Allowed): (body: unknown) => Record<string, unknown> {
  const schema = bodyOf(allowed)
  return body => {
    const { error, data } = schema.safeParse(JSON.parse(JSON.stringify(body)))
    if (!error) return data
    throw new TaskFailure(
      'container.create_failed',
      `the container was not made, because it may not have ${error.issues.map(describe).join(', ')}`,
      { hint: 'this is a fault of the runtime itself: please report it' },
    )
  }
}

/** Names keys and never values, which may be the task's. */
function describe(issue: z.core.$ZodIssue): string {
  const at = issue.path.map(String).join('.')
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys : []
  return unknown.length > 0
    ? unknown.map(key => (at === '' ? key : `${at}.${key}`)).join(', ')
    : `this value of ${at === '' ? 'the body' : at}`
}
