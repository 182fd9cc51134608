/** Keys for a bucket, wrapped so that neither logs nor JSON can show the secret ones. */
export class Credentials {
  readonly #values: { accessKeyId: string; secretAccessKey: string; sessionToken?: string }

  constructor(values: { accessKeyId: string; secretAccessKey: string; sessionToken?: string | undefined }) {
    const { sessionToken, ...keys } = values
    this.#values = sessionToken ? { ...keys, sessionToken } : keys
  }

  /** Call it only where they are used. */
  reveal(): { accessKeyId: string; secretAccessKey: string; sessionToken?: string } {
    return { ...this.#values }
  }

  toString(): string {
    return '[credentials]'
  }

  toJSON(): string {
    return '[credentials]'
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[credentials]'
  }
}

/** Where a bucket is and how it is spoken to. */
export interface S3Settings {
  readonly bucket: string
  /** Before every key: empty, or with a `/` at its end. */
  readonly prefix: string
  /** `http://host:port` or `https://…`; null for AWS itself. */
  readonly endpoint: string | null
  readonly region: string
  /** The bucket's name in the path (`host/bucket/key`) and not in the host's name. */
  readonly pathStyle: boolean
  /** Null: the AWS SDK looks for them where it always does (profile, web identity, the machine's role). */
  readonly credentials: Credentials | null
}

/** The same as a caller gives it. */
export interface StorageOptions {
  /** `s3://bucket/prefix`; `file` or nothing for the worker's own disk. */
  readonly url?: string | undefined
  /** Of a server that is not AWS: `https://s3.example.com`. */
  readonly endpoint?: string | undefined
  /** `us-east-1` by default, which most servers take. */
  readonly region?: string | undefined
  /** True by default where an endpoint is given. */
  readonly pathStyle?: boolean | undefined
  readonly credentials?:
    | { accessKeyId: string; secretAccessKey: string; sessionToken?: string | undefined }
    | undefined
}

/** Settings that can't be used; `problems` names each by its variable, without any secret. */
export class StorageConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(`the storage can't be used as it is set up:\n  - ${problems.join('\n  - ')}`)
    this.name = 'StorageConfigError'
    this.problems = problems
  }
}

/** The variables of the runtime that `storageOptions` reads, besides the standard AWS_* ones. */
export const STORAGE_VARIABLES = [
  'AGIRUNNER_STORAGE',
  'AGIRUNNER_S3_ENDPOINT',
  'AGIRUNNER_S3_REGION',
  'AGIRUNNER_S3_PATH_STYLE',
] as const

type Env = Readonly<Record<string, string | undefined>>

/** The options that an environment names. @throws StorageConfigError */
export function storageOptions(env: Env): StorageOptions {
  const problems = [...keyProblems(env), ...pathStyleProblems(env.AGIRUNNER_S3_PATH_STYLE)]
  if (problems.length > 0) throw new StorageConfigError(problems)
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = env
  const pathStyle = env.AGIRUNNER_S3_PATH_STYLE
  return {
    url: env.AGIRUNNER_STORAGE,
    endpoint: env.AGIRUNNER_S3_ENDPOINT,
    region: env.AGIRUNNER_S3_REGION ?? env.AWS_REGION ?? env.AWS_DEFAULT_REGION,
    pathStyle: pathStyle === undefined ? undefined : YES.includes(pathStyle),
    credentials:
      accessKeyId && secretAccessKey
        ? { accessKeyId, secretAccessKey, sessionToken: env.AWS_SESSION_TOKEN }
        : undefined,
  }
}

const YES: readonly string[] = ['1', 'true', 'yes']

function pathStyleProblems(value: string | undefined): string[] {
  if (value === undefined || [...YES, '0', 'false', 'no'].includes(value)) return []
  return ['AGIRUNNER_S3_PATH_STYLE: must be 1, true, yes, 0, false or no']
}

function keyProblems(env: Env): string[] {
  if (Boolean(env.AWS_ACCESS_KEY_ID) === Boolean(env.AWS_SECRET_ACCESS_KEY)) return []
  if (!env.AGIRUNNER_STORAGE?.startsWith('s3:')) return []
  return ['AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: one is set without the other']
}

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/
const PREFIX = /^([A-Za-z0-9._-]+\/)*$/

/**
 * Checks options and fills in what they leave out.
 *
 * @returns null for the worker's own disk
 * @throws StorageConfigError with every problem
 */
export function storageSettings(options: StorageOptions): S3Settings | null {
  const { url = 'file', endpoint = null } = options
  if (url === 'file') return null
  const problems: string[] = []
  const [, bucket = '', path = ''] = /^s3:\/\/([^/]*)(?:\/(.*))?$/.exec(url) ?? []
  const prefix = path === '' || path.endsWith('/') ? path : `${path}/`
  if (!url.startsWith('s3://')) problems.push('AGIRUNNER_STORAGE: must be `file` or `s3://bucket/prefix`')
  else if (!BUCKET.test(bucket)) problems.push(`AGIRUNNER_STORAGE: "${bucket}" can't be a bucket's name`)
  else if (!PREFIX.test(prefix) || prefix.split('/').some(part => part === '.' || part === '..'))
    problems.push('AGIRUNNER_STORAGE: a prefix may hold letters, digits, ".", "_", "-" and "/"')
  if (endpoint !== null && !isOrigin(endpoint))
    problems.push('AGIRUNNER_S3_ENDPOINT: must be an origin such as https://s3.example.com, without a path')
  const region = options.region ?? 'us-east-1'
  if (!/^[A-Za-z0-9-]{1,64}$/.test(region))
    problems.push('AGIRUNNER_S3_REGION: may hold letters, digits and "-"')
  if (problems.length > 0) throw new StorageConfigError(problems)
  const { pathStyle = endpoint !== null, credentials } = options
  return {
    bucket,
    prefix,
    endpoint,
    region,
    pathStyle,
    credentials: credentials ? new Credentials(credentials) : null,
  }
}

/** Without user-info, path, query: keys in an address end up in messages. */
function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, origin, username, password } = new URL(text)
  if (username !== '' || password !== '') return false
  return /^https?:$/.test(protocol) && (text === origin || text === `${origin}/`)
}
