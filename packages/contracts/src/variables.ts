import { nearest } from './spec-error.js'

const names = (prefix: string, ...endings: string[]) => endings.map(ending => `AGIRUNNER_${prefix}${ending}`)

/** Every variable of the runtime, whichever program reads it: each of them warns of a name that is none. */
export const AGIRUNNER_VARIABLES: readonly string[] = [
  ...names(
    '',
    'CONCURRENCY',
    'DATA',
    'DRAIN_SECONDS',
    'HTTP',
    'LOG_CEILING',
    'LOG_LEVEL',
    'MAX_KEEP',
    'QUEUE',
  ),
  ...names('BOARD_', 'BASE', 'HOST', 'PASSWORD', 'PORT', 'VIEWER_PASSWORD'),
  ...names('', 'BASE_IMAGE_PULL', 'CATALOG', 'NO_INSTALL', 'PULL_IDLE_SECONDS', 'REDIS_IMAGE'),
  ...names('', 'BOOTSTRAP_SECONDS', 'CACHE_BYTES', 'DISK_FLOOR', 'DISK_QUOTA', 'STRATEGY'),
  ...names('DEFAULT_', 'CPU', 'DISK', 'LOG', 'MEMORY', 'OUTPUT', 'PIDS', 'SHM', 'TIMEOUT', 'TMP'),
  ...names('MAX_', 'CPU', 'DISK', 'LOG', 'MEMORY', 'OUTPUT', 'PIDS', 'SHM', 'TIMEOUT', 'TMP'),
  ...names(
    '',
    'ALLOW_ROOT_PROFILE',
    'EGRESS_PRIVATE',
    'GIT_ALLOW_PRIVATE',
    'HOST_ROOTS',
    'NETWORKS',
    'RUNTIMES',
  ),
  ...names('', 'PARK', 'PARK_MEMORY', 'PARK_SECONDS', 'SECRET_ENV', 'SECRET_ROOT'),
  ...names('', 'STORAGE', 'S3_ENDPOINT', 'S3_PATH_STYLE', 'S3_REGION'),
]

/** What tests are told. */
const OF_TESTS = names('TEST_', 'BROWSER', 'IMAGE', 'TOTALS')
/** What the runtime sets inside a task, where its programs may be used too. */
const OF_TASKS = names('', 'TASK_ID', 'ATTEMPT', 'WORKSPACE', 'CONTEXT', 'OUTPUT')

/** One line for each variable that no program of the runtime reads. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  const known = [...AGIRUNNER_VARIABLES, ...OF_TESTS, ...OF_TASKS]
  return Object.keys(env)
    .filter(name => name.startsWith('AGIRUNNER_') && !known.includes(name))
    .map(name => {
      const near = nearest(name, AGIRUNNER_VARIABLES)
      return `${name} is no variable of the runtime${near ? `; did you mean ${near}?` : ''}`
    })
}
