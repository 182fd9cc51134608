import { DEFAULT_QUEUE } from '@agirunner/contracts'
import { StorageConfigError, type StorageOptions, storageOptions } from '@agirunner/producer'
import { z } from 'zod'

const password = z.union([z.literal(''), z.string().min(8, 'must have at least 8 characters')]).optional()
/** The first parts of the board's own addresses: below a base of that name nobody could tell which is meant. */
const OWN = ['api', 'assets', 'containers', 'healthz', 'queues', 'tasks']

/** Every variable that the board reads. An empty password counts as none: a shell's `X= board` must not open it. */
const VARIABLES = z.object({
  REDIS_URL: z.string().refine(url => /^rediss?:\/\//.test(url), 'must start with redis:// or rediss://'),
  AGIRUNNER_QUEUE: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'may hold letters, digits, "_" and "-"')
    .default(DEFAULT_QUEUE),
  AGIRUNNER_BOARD_HOST: z.string().min(1).default('127.0.0.1'),
  AGIRUNNER_BOARD_PORT: z.coerce.number().int().min(0).max(65_535).default(3700),
  AGIRUNNER_BOARD_PASSWORD: password,
  AGIRUNNER_BOARD_VIEWER_PASSWORD: password,
  AGIRUNNER_BOARD_BASE: z
    .string()
    .regex(/^(?:\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*\/?$/, 'must be a path such as /agirunner')
    .refine(base => !OWN.includes(base.split('/')[1] ?? ''), `must not begin with ${OWN.join(', ')}`)
    .transform(base => base.replace(/\/$/, ''))
    .default(''),
})

export interface BoardConfig {
  readonly redisUrl: string
  readonly queue: string
  /** The address to listen on; 127.0.0.1 unless the operator says otherwise. */
  readonly host: string
  /** 0 is any free port. */
  readonly port: number
  /** Null when one is to be generated. */
  readonly password: string | null
  /** Null when nobody is to log in as viewer. */
  readonly viewerPassword: string | null
  /** The path that a proxy shows the board under, such as `/agirunner`; empty for none. */
  readonly base: string
  readonly storage: StorageOptions
}

/** A set-up that the board can't start with. */
export class ConfigError extends Error {
  constructor(problems: readonly string[]) {
    super(`the configuration is wrong:\n  - ${problems.join('\n  - ')}`)
    this.name = 'ConfigError'
  }
}

/**
 * Reads the board's configuration; the only place that looks at the environment.
 *
 * @throws ConfigError with every problem
 */
export function readConfig(env: NodeJS.ProcessEnv = process.env): BoardConfig {
  const parsed = VARIABLES.safeParse(env)
  if (!parsed.success) {
    throw new ConfigError(parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`))
  }
  const value = parsed.data
  const viewerPassword = value.AGIRUNNER_BOARD_VIEWER_PASSWORD || null
  if (viewerPassword !== null && viewerPassword === value.AGIRUNNER_BOARD_PASSWORD) {
    throw new ConfigError(["AGIRUNNER_BOARD_VIEWER_PASSWORD: must be another one than the operator's"])
  }
  return {
    redisUrl: value.REDIS_URL,
    queue: value.AGIRUNNER_QUEUE,
    host: value.AGIRUNNER_BOARD_HOST,
    port: value.AGIRUNNER_BOARD_PORT,
    password: value.AGIRUNNER_BOARD_PASSWORD || null,
    viewerPassword,
    base: value.AGIRUNNER_BOARD_BASE,
    storage: readStorage(env),
  }
}

function readStorage(env: NodeJS.ProcessEnv): StorageOptions {
  try {
    return storageOptions(env)
  } catch (error) {
    if (error instanceof StorageConfigError) throw new ConfigError([error.message])
    throw error
  }
}
