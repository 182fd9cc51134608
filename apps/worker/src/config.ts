import { homedir } from 'node:os'
import { join } from 'node:path'
import {
  type Catalog,
  DEFAULT_CACHE_BYTES,
  DEFAULT_IMAGE,
  DEFAULT_QUEUE,
  parseSize,
  readCatalog,
  unknownVariables,
} from '@agirunner/contracts'
import { type S3Settings, StorageConfigError, storageOptions, storageSettings } from '@agirunner/storage'
import { z } from 'zod'
import type { HttpPlace } from './observe/http-server.js'
import { TRACE_EXPORTERS, TRACE_PROTOCOLS, type TraceSettings } from './observe/tracing.js'
import { type EgressRange, parseRanges } from './support/address-ranges.js'
import { type HostRoot, readHostRoots } from './support/host-roots.js'
import { LIMIT_VARIABLES, type LimitPolicy, limitPolicy } from './support/limit-policy.js'
import type { ParkingBudget } from './support/parking-budget.js'
import { STRATEGIES, type Strategy } from './support/strategy.js'

const LOOPBACK = '127.0.0.1'
const HTTP_DEFAULT: HttpPlace = { host: LOOPBACK, port: 3701, named: false }
const NETWORK_MODES = ['none', 'allowlist', 'open'] as const

const boolean = z
  .enum(['1', 'true', 'yes', '0', 'false', 'no'])
  .transform(value => ['1', 'true', 'yes'].includes(value))
const size = z.string().transform((value, context) => {
  try {
    return parseSize(value)
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message })
    return z.NEVER
  }
})

const modes = z.string().transform((value, context) => {
  const words = value.split(/[\s,]+/).filter(word => word !== '')
  const known = NETWORK_MODES.filter(mode => words.includes(mode))
  if (known.length > 0 && known.length === new Set(words).size) return new Set(known)
  context.addIssue({ code: 'custom', message: `must be one or more of ${NETWORK_MODES.join(', ')}` })
  return z.NEVER
})
const ranges = z.string().transform((value, context) => {
  const { ranges: found, problems } = parseRanges(value)
  for (const message of problems) context.addIssue({ code: 'custom', message })
  return found
})
/** `off`, a port, or `host:port` with an IPv6 address in brackets. */
const place = z.string().transform((value, context): HttpPlace | null => {
  if (value === 'off') return null
  const [, host = LOOPBACK, port] = /^(?:(\[[0-9A-Fa-f:.]+\]|[^\s:[\]]+):)?(\d{1,5})$/.exec(value) ?? []
  if (port !== undefined && Number(port) <= 65_535)
    return { host: host.replace(/^\[|\]$/g, ''), port: Number(port), named: true }
  context.addIssue({
    code: 'custom',
    message: 'must be "host:port", a port, or "off"; port 0 is any that is free',
  })
  return z.NEVER
})
const seconds = z.coerce
  .number()
  .min(1)
  .max(24 * 3600)

/** OpenTelemetry has an empty variable count as not set. */
function otel<const T extends readonly [string, ...string[]]>(values: T) {
  return z.preprocess(value => (value === '' ? undefined : value), z.enum(values).optional())
}

/** Every variable that the worker reads, with its default. The README's table is held equal to it by a test. */
const VARIABLES = {
  REDIS_URL: z.string().refine(url => /^rediss?:\/\//.test(url), 'must start with redis:// or rediss://'),
  DOCKER_HOST: z.string().optional(),
  DOCKER_TLS_VERIFY: z.string().optional(),
  DOCKER_CONFIG: z.string().optional(),
  AGIRUNNER_DATA: z.string().startsWith('/', 'must be an absolute path').optional(),
  AGIRUNNER_QUEUE: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'may hold letters, digits, "_" and "-"')
    .default(DEFAULT_QUEUE),
  AGIRUNNER_CONCURRENCY: z.coerce.number().int().min(1).max(1024).default(4),
  AGIRUNNER_DRAIN_SECONDS: z.coerce
    .number()
    .min(0)
    .max(24 * 3600)
    .default(30),
  AGIRUNNER_MAX_KEEP: z.coerce
    .number()
    .min(0)
    .max(7 * 24 * 3600)
    .default(24 * 3600),
  AGIRUNNER_HTTP: place.default(HTTP_DEFAULT),
  AGIRUNNER_LOG_LEVEL: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
  AGIRUNNER_LOG_CEILING: size.prefault('1Gi'),
  AGIRUNNER_BOOTSTRAP_SECONDS: seconds.default(600),
  AGIRUNNER_PULL_IDLE_SECONDS: seconds.default(60),
  AGIRUNNER_CATALOG: z.string().startsWith('/', 'must be an absolute path').optional(),
  AGIRUNNER_STRATEGY: z.enum(['auto', ...STRATEGIES]).default('auto'),
  AGIRUNNER_PARK: z.coerce.number().int().min(0).max(256).default(4),
  AGIRUNNER_PARK_MEMORY: size.prefault('256Mi'),
  AGIRUNNER_PARK_SECONDS: seconds.default(900),
  AGIRUNNER_DISK_QUOTA: z.enum(['auto', 'off']).default('auto'),
  AGIRUNNER_CACHE_BYTES: size.prefault(DEFAULT_CACHE_BYTES),
  AGIRUNNER_DISK_FLOOR: size.prefault('2Gi'),
  AGIRUNNER_GIT_ALLOW_PRIVATE: boolean.prefault('no'),
  AGIRUNNER_ALLOW_ROOT_PROFILE: boolean.prefault('yes'),
  AGIRUNNER_NETWORKS: modes.prefault(NETWORK_MODES.join(',')),
  AGIRUNNER_EGRESS_PRIVATE: ranges.prefault(''),
  AGIRUNNER_RUNTIMES: z
    .string()
    .regex(/^[A-Za-z0-9._\s,-]*$/, 'must be names of OCI runtimes, separated by commas')
    .default(''),
  AGIRUNNER_SECRET_ENV: z.string().default(''),
  AGIRUNNER_SECRET_ROOT: z.string().startsWith('/', 'must be an absolute path').optional(),
  AGIRUNNER_HOST_ROOTS: z.string().default(''),
  // Checked all together by the storage package, which the command line reads them with too.
  AGIRUNNER_STORAGE: z.string().optional(),
  AGIRUNNER_S3_ENDPOINT: z.string().optional(),
  AGIRUNNER_S3_REGION: z.string().optional(),
  AGIRUNNER_S3_PATH_STYLE: z.string().optional(),
  // Of OpenTelemetry's variables those that choose what is loaded; its SDK reads the others itself.
  OTEL_SDK_DISABLED: z.string().optional(),
  OTEL_TRACES_EXPORTER: otel(['none', ...TRACE_EXPORTERS]),
  OTEL_EXPORTER_OTLP_ENDPOINT: z.string().optional(),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: z.string().optional(),
  OTEL_EXPORTER_OTLP_PROTOCOL: otel(TRACE_PROTOCOLS),
  OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: otel(TRACE_PROTOCOLS),
  ...LIMIT_VARIABLES,
} as const

/** Every variable that a worker reads. */
export const WORKER_VARIABLES: readonly string[] = Object.keys(VARIABLES)

export interface Config {
  readonly redisUrl: string
  readonly engine: { readonly host: string | null; readonly tls: boolean }
  readonly dataDir: string
  readonly queue: string
  readonly concurrency: number
  readonly drainMs: number
  /** The longest that a container may be kept beyond its task's end; 0 for never. */
  readonly maxKeepMs: number
  /** Where it answers for itself; null for nowhere. */
  readonly http: HttpPlace | null
  /** Where traces go; null for nowhere. */
  readonly traces: TraceSettings | null
  readonly logLevel: 'error' | 'warn' | 'info' | 'debug'
  readonly logCeilingBytes: number
  /** What tasks may ask for at most, and what they get where they name nothing. */
  readonly limits: LimitPolicy
  readonly strategy: 'auto' | Strategy
  /** What may wait for tasks; `max` 0 for nothing. */
  readonly parking: ParkingBudget
  /** Whether tasks get a disk of their own where that works. */
  readonly diskQuota: 'auto' | 'off'
  /** What the cache of repositories and snapshots may occupy, and what must stay free beside it. */
  readonly cache: { readonly maxBytes: number; readonly minFreeBytes: number }
  /** What tasks may name by one word. */
  readonly catalog: Catalog
  /** The folder of Docker's own `config.json`, with credentials for registries. */
  readonly dockerConfigDir: string
  /** How long nothing may come of a pull, and how long a bootstrap may take. */
  readonly pullIdleMs: number
  readonly bootstrapMs: number
  readonly gitAllowPrivate: boolean
  readonly allowRootProfile: boolean
  /** What tasks may ask for as `environment.network.mode`. */
  readonly networks: ReadonlySet<(typeof NETWORK_MODES)[number]>
  /** Private addresses that tasks may reach where their network lets them out. */
  readonly egressPrivate: readonly EgressRange[]
  /** OCI runtimes that tasks may name, where the engine has them. */
  readonly runtimes: readonly string[]
  /** The bucket for what tasks leave; null for the worker's own disk. */
  readonly storage: S3Settings | null
  /** Names of variables that `env:NAME` may read. */
  readonly secretNames: ReadonlySet<string>
  readonly secretRoot: string | null
  /** Below which folders of this machine `host_directory` may name one. */
  readonly hostRoots: readonly HostRoot[]
  /** Reads one of `secretNames`. */
  readonly readSecret: (name: string) => string | undefined
  /** What the operator should hear, such as an unknown variable. */
  readonly warnings: readonly string[]
}

/** A set-up that the worker can't start with. */
export class ConfigError extends Error {
  constructor(problems: readonly string[]) {
    super(`the configuration is wrong:\n  - ${problems.join('\n  - ')}`)
    this.name = 'ConfigError'
  }
}

/**
 * Reads the worker's configuration; the only place that looks at the environment.
 *
 * @throws ConfigError with every problem
 */
export function readConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const parsed = z.object(VARIABLES).safeParse(env)
  const { roots, problems } = hostRootsOf(env)
  const catalog = catalogOf(env, problems)
  const storage = storageOf(env, problems)
  if (!parsed.success || problems.length > 0) {
    const issues = parsed.error?.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`) ?? []
    throw new ConfigError([...issues, ...problems])
  }
  const value = parsed.data
  return {
    redisUrl: value.REDIS_URL,
    engine: { host: value.DOCKER_HOST ?? null, tls: Boolean(value.DOCKER_TLS_VERIFY) },
    dataDir: value.AGIRUNNER_DATA ?? defaultDataDir(env),
    queue: value.AGIRUNNER_QUEUE,
    concurrency: value.AGIRUNNER_CONCURRENCY,
    drainMs: value.AGIRUNNER_DRAIN_SECONDS * 1000,
    maxKeepMs: value.AGIRUNNER_MAX_KEEP * 1000,
    http: value.AGIRUNNER_HTTP,
    traces: tracesOf(value),
    logLevel: value.AGIRUNNER_LOG_LEVEL,
    logCeilingBytes: value.AGIRUNNER_LOG_CEILING,
    limits: limitPolicy(value),
    strategy: value.AGIRUNNER_STRATEGY,
    diskQuota: value.AGIRUNNER_DISK_QUOTA,
    parking: {
      max: value.AGIRUNNER_PARK,
      memoryBytes: value.AGIRUNNER_PARK_MEMORY,
      maxAgeMs: value.AGIRUNNER_PARK_SECONDS * 1000,
    },
    cache: { maxBytes: value.AGIRUNNER_CACHE_BYTES, minFreeBytes: value.AGIRUNNER_DISK_FLOOR },
    catalog,
    dockerConfigDir: value.DOCKER_CONFIG ?? join(homedir(), '.docker'),
    pullIdleMs: value.AGIRUNNER_PULL_IDLE_SECONDS * 1000,
    bootstrapMs: value.AGIRUNNER_BOOTSTRAP_SECONDS * 1000,
    gitAllowPrivate: value.AGIRUNNER_GIT_ALLOW_PRIVATE,
    allowRootProfile: value.AGIRUNNER_ALLOW_ROOT_PROFILE,
    networks: value.AGIRUNNER_NETWORKS,
    egressPrivate: value.AGIRUNNER_EGRESS_PRIVATE,
    runtimes: listOf(value.AGIRUNNER_RUNTIMES),
    storage,
    secretNames: new Set(listOf(value.AGIRUNNER_SECRET_ENV)),
    secretRoot: value.AGIRUNNER_SECRET_ROOT ?? null,
    hostRoots: roots,
    readSecret: name => env[name],
    warnings: [...unknownVariables(env), ...catalogWarnings(catalog)],
  }
}

type Variables = z.output<z.ZodObject<typeof VARIABLES>>

/** As OpenTelemetry's specification has it, but that without an address nothing is sent: its default would be a guess. */
function tracesOf(value: Variables): TraceSettings | null {
  if (value.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return null
  const endpoint = value.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || value.OTEL_EXPORTER_OTLP_ENDPOINT
  const exporter = value.OTEL_TRACES_EXPORTER ?? (endpoint ? 'otlp' : 'none')
  if (exporter === 'none') return null
  const named = value.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL ?? value.OTEL_EXPORTER_OTLP_PROTOCOL
  return { exporter, protocol: named ?? 'http/protobuf' }
}

function listOf(text: string): string[] {
  return text.split(/[\s,]+/).filter(name => name !== '')
}

/** The same for what needs no queue: REDIS_URL may be missing. @throws ConfigError */
export function readConfigWithoutQueue(env: NodeJS.ProcessEnv = process.env): Omit<Config, 'redisUrl'> {
  return readConfig({ REDIS_URL: 'redis://', ...env })
}

/** Adds to the problems why the operator's catalog can't be used. */
function catalogOf({ AGIRUNNER_CATALOG: path }: NodeJS.ProcessEnv, problems: string[]): Catalog {
  try {
    return readCatalog(path ?? null)
  } catch (error) {
    problems.push(`AGIRUNNER_CATALOG: ${(error as Error).message}`)
    return new Map()
  }
}

/** Adds to the problems why the storage can't be what the operator says. */
function storageOf(env: NodeJS.ProcessEnv, problems: string[]): S3Settings | null {
  try {
    return storageSettings(storageOptions(env))
  } catch (error) {
    if (!(error instanceof StorageConfigError)) throw error
    problems.push(...error.problems)
    return null
  }
}

function catalogWarnings(catalog: Catalog): string[] {
  if (catalog.has(DEFAULT_IMAGE)) return []
  return [`the catalog has no "${DEFAULT_IMAGE}", the image of tasks that name none`]
}

/** Tasks must find neither what others left in the data folder nor the secrets. */
function hostRootsOf(env: NodeJS.ProcessEnv): { roots: HostRoot[]; problems: string[] } {
  const { AGIRUNNER_SECRET_ROOT: secrets } = env
  const { roots, problems } = readHostRoots(env.AGIRUNNER_HOST_ROOTS ?? '', [
    { name: 'AGIRUNNER_DATA', path: env.AGIRUNNER_DATA ?? defaultDataDir(env) },
    ...(secrets === undefined ? [] : [{ name: 'AGIRUNNER_SECRET_ROOT', path: secrets }]),
  ])
  return { roots, problems: problems.map(problem => `AGIRUNNER_HOST_ROOTS: ${problem}`) }
}

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return '/var/lib/agirunner'
  return join(env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state'), 'agirunner')
}
