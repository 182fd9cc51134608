import { Redis } from 'ioredis'
import type { Call } from '../command.js'
import { maskUrl } from '../output.js'
import { redisUrlOf } from '../settings.js'
import { bad, type Finding, messageOf, ok, warn } from './finding.js'

const ANSWER_MS = 2000
/** BullMQ refuses what is older than 5.0 and advises against what is older than 6.2. */
const ADVISED = [6, 2] as const

/** Whether Redis answers, is new enough, and keeps what it is given. */
export async function checkRedis({ settings }: Call): Promise<Finding[]> {
  let url: string
  try {
    url = redisUrlOf(settings)
  } catch (error) {
    const [what, why] = messageOf(error).split('; ')
    return [bad('redis', `${what}: ${why}`, 'run `agirunner up`, or set REDIS_URL to "redis://host:port"')]
  }
  const redis = new Redis(url, {
    lazyConnect: true,
    retryStrategy: null,
    connectTimeout: ANSWER_MS,
    commandTimeout: ANSWER_MS,
  })
  let why = ''
  redis.on('error', error => {
    why = error.message
  })
  try {
    await redis.connect()
    const info = await redis.info()
    return [versionOf(info, url), await evictionOf(redis), persistenceOf(info)]
  } catch (error) {
    const fix = 'start it, correct REDIS_URL, or run `agirunner up` for a private one'
    return [bad('redis', `${maskUrl(url)} does not answer: ${why || messageOf(error)}`, fix)]
  } finally {
    redis.disconnect()
  }
}

function versionOf(info: string, url: string): Finding {
  const version = /^redis_version:(\S+)/m.exec(info)?.[1] ?? 'of unknown version'
  const found = `${version} at ${maskUrl(url)}`
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isNewEnough = major > ADVISED[0] || (major === ADVISED[0] && minor >= ADVISED[1])
  return isNewEnough ? ok('redis', found) : warn('redis', found, `use Redis ${ADVISED.join('.')} or newer`)
}

async function evictionOf(redis: Redis): Promise<Finding> {
  const check = 'eviction'
  const policy = await redis.config('GET', 'maxmemory-policy').then(
    reply => (reply as string[])[1] ?? '',
    () => '',
  )
  if (policy === 'noeviction') return ok(check, 'noeviction: no task is dropped when memory is short')
  const fix = 'set `maxmemory-policy noeviction` in its configuration'
  if (policy === '')
    return warn(check, "can't be read: this Redis does not allow CONFIG GET", `make sure: ${fix}`)
  return bad(check, `maxmemory-policy is ${policy}: tasks can be dropped when memory is short`, fix)
}

function persistenceOf(info: string): Finding {
  if (/^aof_enabled:1/m.test(info)) return ok('persistence', 'AOF: tasks survive a crash of Redis')
  return warn(
    'persistence',
    'no AOF: tasks of the last minutes can be lost in a crash',
    'set `appendonly yes`',
  )
}
