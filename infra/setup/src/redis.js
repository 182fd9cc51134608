import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { whyNoInstall } from './apt.js'
import { findEngine } from './engine.js'
import { messageOf, SetupError } from './errors.js'
import { dataFolder, writePrivateFile } from './files.js'
import { withLock } from './lock.js'
import { areaLog } from './log.js'
import { endProcess, isAlive, startService, tailOf } from './processes.js'
import {
  containerRuns,
  ensureRedisImage,
  removeRedisContainer,
  startRedisContainer,
} from './redis-container.js'
import { findRedisProgram, installRedisProgram } from './redis-program.js'
import { askRedis, RedisReplyError } from './resp.js'
import { joinService, leaveService, readService, recordService } from './service.js'

/** @typedef {import('./environment.js').Env} Env */
/** @typedef {import('./log.js').Log} Log */
/** @typedef {import('./service.js').ServiceState} ServiceState */
/** @typedef {import('./service.js').Service & {url: string}} Redis `url` with its password: not for a log */
/** @typedef {{dataDir: string, env: Env, log: Log}} Options */
/** @typedef {{url: string, port: number, folder: string, configFile: string, logFile: string}} Plan */

const pingMs = 5000
const readyMs = 15_000
const loadMs = 10 * 60 * 1000
const stopMs = 30_000
const startsTried = 3
const installGuide = 'https://redis.io/docs/latest/operate/oss_and_stack/install'

/**
 * Finds a Redis, or starts a private one with its data below the data folder. After its death, a later call
 * starts it on the same data, and where possible with the same address and password, so that its clients find
 * it again.
 * @param {Options & {keep?: boolean}} options `keep`: what is started is to run on until `setup --stop`
 * @returns {Promise<Redis>}
 * @throws {SetupError} redis.unreachable, redis.missing, redis.start_failed, install.failed
 */
export async function ensureRedis({ dataDir, env, log, keep = false }) {
  if (env.REDIS_URL) return useNamed(env.REDIS_URL, areaLog(log, 'redis'))
  return withLock({ dataDir, name: 'redis', log }, async () => {
    const state = readService(stateFile(dataDir))
    if (state && (await runs(state, env))) return reuse(state, { dataDir, env, log, keep })
    const started = await start({ dataDir, env, say: areaLog(log, 'redis'), former: state?.url ?? null })
    return redisOf(recordService(stateFile(dataDir), { ...started, keep }), {
      dataDir,
      env,
      log,
      started: true,
    })
  })
}

/**
 * Stops the private Redis that an earlier set-up with this data folder started.
 * @param {Options} options
 * @returns {Promise<boolean>} whether there was one
 */
export function stopStartedRedis({ dataDir, env, log }) {
  return withLock({ dataDir, name: 'redis', log }, async () => {
    const state = readService(stateFile(dataDir))
    if (!state || !(await runs(state, env))) return false
    await end(state, { dataDir, env, log })
    return true
  })
}

/**
 * @param {string} url
 * @param {Log} say
 * @returns {Promise<Redis>}
 */
async function useNamed(url, say) {
  try {
    say(`using ${await describe(url)}, as REDIS_URL says`)
  } catch (error) {
    throw new SetupError('redis.unreachable', {
      what: `no Redis answers at REDIS_URL (${publicAddress(url)})`,
      why: messageOf(error),
      fix: 'start it, correct REDIS_URL, or unset it to get a private Redis',
    })
  }
  await warnOfEviction(url, say)
  return { url, started: false, pid: null, stop: async () => {} }
}

/**
 * A queue in a Redis that may evict keys loses tasks. It is not ours to reconfigure, so this only says so.
 * @param {string} url
 * @param {Log} say
 */
async function warnOfEviction(url, say) {
  // Hosted servers often refuse CONFIG.
  const reply = await askRedis(url, [['CONFIG', 'GET', 'maxmemory-policy']], { withinMs: pingMs }).catch(
    () => [],
  )
  const policy = reply[0]?.split('\n')[1]
  if (policy && policy !== 'noeviction') {
    say(`its maxmemory-policy is ${policy}; it may drop tasks when memory is short; set it to noeviction`)
  }
}

/**
 * @param {ServiceState} state
 * @param {Options & {keep: boolean}} options
 * @returns {Promise<Redis>}
 */
async function reuse(state, { dataDir, env, log, keep }) {
  const say = areaLog(log, 'redis')
  const logFile = join(dataFolder(dataDir, 'redis'), 'redis.log')
  await waitUntilReady(state.url, () => runs(state, env), { say, logFile })
  joinService(stateFile(dataDir), state, { keep })
  say(
    `using ${await describe(state.url)}, which an earlier set-up started${state.pid ? ` as process ${state.pid}` : ''}`,
  )
  return redisOf(state, { dataDir, env, log, started: false })
}

/**
 * @param {ServiceState} state
 * @param {Options & {started: boolean}} options
 * @returns {Redis}
 */
function redisOf(state, { dataDir, env, log, started }) {
  const stop = () =>
    withLock({ dataDir, name: 'redis', log }, async () => {
      const { verdict, users } = leaveService(stateFile(dataDir), { expected: state, started })
      if (verdict === 'stop') await end(state, { dataDir, env, log })
      else if (started && users[0]) areaLog(log, 'redis')(`left running for process ${users[0].pid}`)
    })
  return { url: state.url, started, pid: state.pid || null, stop }
}

/**
 * @param {ServiceState} state
 * @param {Env} env
 */
async function runs(state, env) {
  return state.container ? containerRuns(state.container, env) : isAlive(state)
}

/**
 * The state stays, so that the next start can take the same address and password.
 * @param {ServiceState} state
 * @param {Options} options
 */
async function end(state, { env, log }) {
  const say = areaLog(log, 'redis')
  say(`stopping the private Redis on ${publicAddress(state.url)}`)
  if (state.container) await removeRedisContainer(state.container, env)
  else if ((await endProcess(state, { graceMs: stopMs })) === 'killed') {
    say(`it did not stop within ${stopMs / 1000} s and was killed`)
  }
  say('stopped')
}

/**
 * @param {{dataDir: string, env: Env, say: Log, former: string | null}} options `former`: its URL when it
 *   last ran
 * @returns {Promise<{url: string, pid?: number, startTime?: string, container?: string}>}
 */
async function start({ dataDir, env, say, former }) {
  const launcher = await findLauncher({ dataDir, env, say })
  for (let attempt = 1; ; attempt += 1) {
    const plan = await planOf(dataDir, attempt === 1 ? former : null)
    try {
      return await launcher(plan)
    } catch (error) {
      // Somebody took the port between our look and Redis's own.
      const portTaken = /address already in use|port is already allocated/i.test(messageOf(error))
      if (!portTaken || attempt === startsTried) throw error
    }
  }
}

/**
 * @typedef {(plan: Plan) => Promise<{url: string, pid?: number, startTime?: string, container?: string}>}
 *   Launcher
 */

/**
 * Where a Redis server comes from: the PATH, else Debian's package, else an image.
 * @param {{dataDir: string, env: Env, say: Log}} options
 * @returns {Promise<Launcher>}
 * @throws {SetupError} redis.missing
 */
async function findLauncher({ dataDir, env, say }) {
  const forbidden = whyNoInstall(env)
  let program = await findRedisProgram(env)
  let reason = forbidden ?? 'the Debian package holds none'
  if (!program && !forbidden) {
    program = await installRedisProgram({ dataDir, env, say }).catch(error => {
      reason = messageOf(error)
      return null
    })
  }
  if (program) {
    const found = program
    return plan => launchProgram(found, { dataDir, env, say, plan })
  }
  const { found: host } = await findEngine(env).catch(() => ({ found: null }))
  if (!host) throw missingError([reason, 'no container engine answers to run one in'])
  await ensureRedisImage({ host, env, say }).catch(error => {
    throw missingError([reason, messageOf(error)])
  })
  return plan => launchContainer({ host, dataDir, env, say, plan })
}

/**
 * @param {import('./redis-program.js').RedisProgram} program
 * @param {{dataDir: string, env: Env, say: Log, plan: Plan}} options
 * @returns {Promise<{url: string, pid: number, startTime: string}>}
 */
async function launchProgram({ command, argv0, name, version }, { dataDir, env, say, plan }) {
  const { url, port, folder, configFile, logFile } = plan
  writePrivateFile(
    configFile,
    configOf({ bind: '127.0.0.1', port, folder, logFile, password: passwordIn(url) }),
  )
  const own = await startService(command, [configFile], { env, logFile, argv0 }).catch(error => {
    throw startError(messageOf(error), logFile)
  })
  // Recorded before it is ready: killed now, this process must not leave a Redis that the next one doesn't
  // know.
  recordService(stateFile(dataDir), { ...own, url, keep: false })
  try {
    await waitUntilReady(url, async () => isAlive(own), { say, logFile })
  } catch (error) {
    await endProcess(own, { graceMs: stopMs })
    throw error
  }
  say(`using ${name} ${version} on 127.0.0.1:${port}, started as process ${own.pid}`)
  return { ...own, url }
}

/**
 * @param {{host: string, dataDir: string, env: Env, say: Log, plan: Plan}} options
 * @returns {Promise<{url: string, container: string}>}
 */
async function launchContainer({ host, dataDir, env, say, plan }) {
  const { url, port, folder, configFile, logFile } = plan
  const inside = { bind: '0.0.0.0', port: 6379, folder: '/data', logFile: '/data/redis.log' }
  writePrivateFile(configFile, configOf({ ...inside, password: passwordIn(url) }))
  const container = await startRedisContainer({ host, env, port, folder })
  recordService(stateFile(dataDir), { container, url, keep: false })
  try {
    await waitUntilReady(url, () => containerRuns(container, env), { say, logFile })
  } catch (error) {
    await removeRedisContainer(container, env)
    throw error
  }
  say(`using ${await describe(url)}, started in container ${container.slice(0, 12)}`)
  return { url, container }
}

/**
 * @param {string} dataDir
 * @param {string | null} former
 * @returns {Promise<Plan>}
 */
async function planOf(dataDir, former) {
  const folder = dataFolder(dataDir, 'redis')
  const old = former ? new URL(former) : null
  const port = old && (await isFree(Number(old.port))) ? Number(old.port) : await freePort()
  const password = old?.password || randomBytes(24).toString('hex')
  return {
    url: `redis://:${password}@127.0.0.1:${port}`,
    port,
    folder,
    configFile: join(folder, 'redis.conf'),
    logFile: join(folder, 'redis.log'),
  }
}

/**
 * Every acknowledged task survives a kill -9 of Redis; a crash of the whole machine may cost the last second.
 * @param {{bind: string, port: number, folder: string, logFile: string, password: string}} options
 * @returns {string}
 */
function configOf({ bind, port, folder, logFile, password }) {
  const lines = [
    `bind ${bind}`,
    `port ${port}`,
    `requirepass ${password}`,
    `dir "${folder}"`,
    `logfile "${logFile}"`,
    'daemonize no',
    'save ""',
    'appendonly yes',
    'appendfsync everysec',
    'maxmemory-policy noeviction',
  ]
  return `${lines.join('\n')}\n`
}

/**
 * Waits for PONG. A Redis with much data first answers LOADING, which may take its time.
 * @param {string} url
 * @param {() => Promise<boolean>} isRunning
 * @param {{say: Log, logFile: string}} options
 * @throws {SetupError} redis.start_failed
 */
async function waitUntilReady(url, isRunning, { say, logFile }) {
  const began = performance.now()
  let limit = began + readyMs
  let nextReminder = began + 5000
  let last = ''
  while (performance.now() < limit) {
    last = await whyNotReady(url)
    if (!last) return
    if (last.startsWith('LOADING')) limit = began + loadMs
    if (!(await isRunning())) throw startError('it ended right after its start', logFile)
    if (performance.now() >= nextReminder) {
      say(`waiting for it: ${last} (${Math.round((performance.now() - began) / 1000)} s)`)
      nextReminder += 5000
    }
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  throw startError(`it did not get ready: ${last}`, logFile)
}

/**
 * @param {string} url
 * @returns {Promise<string>} empty when it is ready
 */
async function whyNotReady(url) {
  try {
    await askRedis(url, [['PING']], { withinMs: 1000 })
    return ''
  } catch (error) {
    return messageOf(error)
  }
}

/**
 * @param {string} url
 * @returns {Promise<string>} name, version and address
 * @throws {Error} when it doesn't answer
 */
async function describe(url) {
  // PING first: a server that refuses INFO is still one.
  await askRedis(url, [['PING']], { withinMs: pingMs })
  const [info] = await askRedis(url, [['INFO', 'server']], { withinMs: pingMs }).catch(error => {
    if (error instanceof RedisReplyError) return ['']
    throw error
  })
  const version = /^redis_version:(\S+)/m.exec(info ?? '')?.[1]
  return `Redis${version ? ` ${version}` : ''} on ${publicAddress(url)}`
}

/**
 * @param {string} url
 * @returns {string} host and port, without the secret
 */
function publicAddress(url) {
  if (!URL.canParse(url)) return 'not a URL'
  return new URL(url).host || url.replace(/\/\/.*@/, '//')
}

/** @param {string} url */
function passwordIn(url) {
  return new URL(url).password
}

/** @returns {Promise<number>} */
function freePort() {
  return listen(0).then(port => port ?? Promise.reject(new Error('no free port on 127.0.0.1')))
}

/** @param {number} port */
async function isFree(port) {
  return (await listen(port)) !== null
}

/**
 * @param {number} port 0 for any
 * @returns {Promise<number | null>} the port that could be listened on for a moment; null when it is taken
 */
function listen(port) {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(null))
    server.listen(port, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : null))
    })
  })
}

/** @param {string} dataDir */
function stateFile(dataDir) {
  return join(dataFolder(dataDir, 'run'), 'redis.json')
}

/** @param {readonly string[]} reasons why each way to one failed */
function missingError(reasons) {
  return new SetupError('redis.missing', {
    what: 'no Redis server',
    why: 'none is on the PATH, and no other way to one worked, as the lines below say',
    fix: `install Redis 6.2 or later (${installGuide}; on Debian \`apt-get install redis-tools\`), or set REDIS_URL`,
    details: reasons.join('\n'),
  })
}

/**
 * @param {string} why
 * @param {string} logFile
 */
function startError(why, logFile) {
  return new SetupError('redis.start_failed', {
    what: "can't start a private Redis",
    why: `${why}; its log ${logFile} ends with the lines below`,
    fix: 'mend what they say and try again, or set REDIS_URL',
    details: tailOf(logFile),
  })
}
