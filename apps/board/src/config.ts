import { DEFAULT_QUEUE } from '@agirunner/contracts'
import { z } from 'zod'

/** Every variable that the board reads. An empty password counts as none: a shell's `X= board` must not open it. */
const VARIABLES = z.object({
  REDIS_URL: z.string().refine(url => /^rediss?:\/\//.test(url), 'must start with redis:// or rediss://'),
  AGIRUNNER_QUEUE: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'may hold letters, digits, "_" and "-"')
    .default(DEFAULT_QUEUE),
  AGIRUNNER_BOARD_HOST: z.string().min(1).default('127.0.0.1'),
  AGIRUNNER_BOARD_PORT: z.coerce.number().int().min(0).max(65_535).default(3700),
  AGIRUNNER_BOARD_PASSWORD: z
    .union([z.literal(''), z.string().min(8, 'must have at least 8 characters')])
    .optional(),
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
  return {
    redisUrl: value.REDIS_URL,
    queue: value.AGIRUNNER_QUEUE,
    host: value.AGIRUNNER_BOARD_HOST,
    port: value.AGIRUNNER_BOARD_PORT,
    password: value.AGIRUNNER_BOARD_PASSWORD || null,
  }
}
