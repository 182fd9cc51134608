import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DEFAULT_CACHE_BYTES, DEFAULT_QUEUE, parseSize } from '@agirunner/contracts'
import { dataDirFrom } from '@agirunner/setup'
import { StorageConfigError, type StorageOptions, storageOptions, storageSettings } from '@agirunner/storage'
import { CliError, EXIT } from './errors.js'
import { readUp, type UpRecord } from './up/up-file.js'

export type Env = Readonly<Record<string, string | undefined>>

const BOOLEANS = [
  'AGIRUNNER_GIT_ALLOW_PRIVATE',
  'AGIRUNNER_ALLOW_ROOT_PROFILE',
  'AGIRUNNER_NO_INSTALL',
] as const

/** Where a command finds things. */
export interface Settings {
  readonly env: Env
  readonly dataDir: string
  readonly queue: string
  /** What `agirunner up` wrote, null when there is none. */
  readonly up: UpRecord | null
}

/** @throws CliError for a value that can't be used */
export function readSettings(env: Env, queueFlag?: string): Settings {
  for (const name of BOOLEANS) checkBoolean(name, env[name])
  const dataDir = dataDirFrom(env)
  const up = readUp(dataDir)
  // With a REDIS_URL of its own, a command does not speak to what `up` runs.
  const queue = queueFlag ?? env.AGIRUNNER_QUEUE ?? (env.REDIS_URL ? undefined : up?.queue) ?? DEFAULT_QUEUE
  checkQueue(queue, queueFlag === undefined ? 'AGIRUNNER_QUEUE' : '--queue')
  return { env, dataDir, queue, up }
}

/** The address of Redis. @throws CliError when none is known */
export function redisUrlOf({ env, up, dataDir }: Settings): string {
  const url = env.REDIS_URL ?? up?.redisUrl
  if (!url) {
    const file = join(dataDir, 'up.json')
    throw new CliError(
      `no Redis is known; REDIS_URL is not set and ${file} is not there; run \`agirunner up\` or set REDIS_URL`,
      EXIT.infrastructure,
    )
  }
  if (!/^rediss?:\/\//.test(url) || !URL.canParse(url)) {
    throw new CliError(
      'REDIS_URL can\'t be used; it is no address of a Redis; give it as "redis://host:port"',
    )
  }
  return url
}

/** The environment with which an engine is looked for: DOCKER_HOST, else what `up` uses, else the usual places. */
export function engineEnvOf({ env, up }: Settings): Env {
  return env.DOCKER_HOST || !up?.dockerHost ? env : { ...env, DOCKER_HOST: up.dockerHost }
}

/** The bucket that workers store in, by the variables that they read too. @throws CliError for what can't be used */
export function storageOf({ env }: Settings): StorageOptions {
  try {
    const options = storageOptions(env)
    storageSettings(options)
    return options
  } catch (error) {
    if (!(error instanceof StorageConfigError)) throw error
    throw new CliError(`the storage can't be used; ${error.problems.join(', and ')}; correct it`)
  }
}

/** What the worker's cache may occupy, in bytes. @throws CliError for a value that is no size */
export function cacheBytesOf({ env }: Settings): number {
  const value = env.AGIRUNNER_CACHE_BYTES ?? DEFAULT_CACHE_BYTES
  try {
    return parseSize(value)
  } catch (error) {
    throw new CliError(
      `AGIRUNNER_CACHE_BYTES can't be ${JSON.stringify(value)}; ${(error as Error).message}; correct it`,
    )
  }
}

/** @throws CliError */
export function wholeNumber(value: string, name: string, from: number, to: number): number {
  const number = Number(value)
  if (/^\d+$/.test(value) && number >= from && number <= to) return number
  throw new CliError(
    `${name} can't be ${JSON.stringify(value)}; it is a whole number from ${from} to ${to}; correct it`,
  )
}

/** This package's version. */
export function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

function checkBoolean(name: string, value: string | undefined): void {
  if (value === undefined || /^(1|true|yes|0|false|no)$/.test(value)) return
  const allowed = '1, true, yes, 0, false or no'
  throw new CliError(`${name} can't be ${JSON.stringify(value)}; it is a yes or no; set it to ${allowed}`)
}

function checkQueue(queue: string, name: string): void {
  if (/^[A-Za-z0-9_-]{1,64}$/.test(queue)) return
  const why = 'a queue\'s name holds up to 64 letters, digits, "_" and "-"'
  throw new CliError(`${name} can't be ${JSON.stringify(queue)}; ${why}; choose another`)
}
