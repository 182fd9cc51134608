import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { whyNoInstall } from './apt.js'
import { defaultSocket, dockerdIsThere, endDockerd, installDockerd, startDockerd } from './dockerd.js'
import { engineVersion, whyNoEngine } from './engine-api.js'
import { isRoot, isTrue } from './environment.js'
import { SetupError } from './errors.js'
import { dataFolder } from './files.js'
import { withLock } from './lock.js'
import { areaLog } from './log.js'
import { isAlive } from './processes.js'
import { forgetService, joinService, leaveService, readService, recordService } from './service.js'

/** @typedef {import('./environment.js').Env} Env */
/** @typedef {import('./service.js').ServiceState} ServiceState */
/** @typedef {import('./service.js').Service & {host: string}} Engine `host` as DOCKER_HOST wants it */

const pingMs = 10_000
const installGuide = 'https://docs.docker.com/engine/install'
const defaultHost = `unix://${defaultSocket}`

/**
 * Finds a container engine, or installs and starts one where that is allowed.
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log, keep?: boolean}} options `keep`: what is
 *   started is to run on until `setup --stop`
 * @returns {Promise<Engine>}
 * @throws {SetupError} engine.unreachable, engine.missing, engine.start_failed, install.failed
 */
export function ensureEngine({ dataDir, env, log, keep = false }) {
  return withLock({ dataDir, name: 'engine', log }, async () => {
    const say = areaLog(log, 'engine')
    const { found, tried } = await findEngine(env)
    if (found) return useFound(found, { dataDir, env, log, keep })
    if (!isRoot() || process.platform !== 'linux') throw missingError(tried, noRightsReason(tried))
    if (!dockerdIsThere(env)) {
      const forbidden = whyNoInstall(env)
      if (forbidden) throw missingError(tried, forbidden)
      await installDockerd({ dataDir, env, say })
      // Where systemd runs, the package has started its own service.
      if ((await whyNoEngine(defaultHost, env, { withinMs: 1000 })) === null) {
        return useFound(defaultHost, { dataDir, env, log, keep })
      }
    }
    // Recorded before it answers: killed now, this process must not leave a dockerd that the next one doesn't
    // know.
    const onLaunch = /** @param {import('./processes.js').ProcessId} own */ own =>
      recordService(stateFile(dataDir), { ...own, url: defaultHost, keep })
    const own = await startDockerd({ dataDir, env, say, onLaunch })
    if (!own) return useFound(defaultHost, { dataDir, env, log, keep })
    const state = recordService(stateFile(dataDir), { ...own, url: defaultHost, keep })
    say(`using ${await describe(defaultHost, env)}, started as process ${own.pid}`)
    return engineOf(state, { dataDir, env, log, started: true })
  })
}

/**
 * Stops the engine that an earlier set-up with this data folder started; any other is left alone.
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log}} options
 * @returns {Promise<boolean>} whether there was one
 */
export function stopStartedEngine({ dataDir, env, log }) {
  return withLock({ dataDir, name: 'engine', log }, async () => {
    const state = readService(stateFile(dataDir))
    if (!state) return false
    const wasAlive = isAlive(state)
    if (wasAlive) await endEngine(state, { dataDir, env, log })
    else forgetService(stateFile(dataDir))
    return wasAlive
  })
}

/**
 * Looks where an engine may listen. `DOCKER_HOST`, when set, is the only place.
 * @param {Env} env
 * @returns {Promise<{found: string | null, tried: {host: string, why: string}[]}>}
 * @throws {SetupError} engine.unreachable when DOCKER_HOST is set and nothing answers there
 */
export async function findEngine(env) {
  if (env.DOCKER_HOST) return { found: await checkNamedHost(env.DOCKER_HOST, env), tried: [] }
  const tried = []
  for (const socket of socketsToTry(env)) {
    if (!existsSync(socket)) continue
    const host = `unix://${socket}`
    const why = await whyNoEngine(host, env, { withinMs: pingMs })
    if (why === null) return { found: host, tried }
    tried.push({ host, why })
  }
  return { found: null, tried }
}

/**
 * @param {Env} env
 * @returns {string[]} the sockets of Docker, rootless Docker, Docker Desktop and its likes, and Podman
 */
function socketsToTry(env) {
  const runtime = env.XDG_RUNTIME_DIR
  const home = env.HOME
  return [
    defaultSocket,
    ...(runtime ? [join(runtime, 'docker.sock')] : []),
    ...(home
      ? [
          join(home, '.docker', 'run', 'docker.sock'),
          join(home, '.docker', 'desktop', 'docker.sock'),
          join(home, '.orbstack', 'run', 'docker.sock'),
          join(home, '.colima', 'default', 'docker.sock'),
          join(home, '.rd', 'docker.sock'),
        ]
      : []),
    '/run/podman/podman.sock',
    ...(runtime ? [join(runtime, 'podman', 'podman.sock')] : []),
  ]
}

/**
 * @param {string} host
 * @param {Env} env
 * @returns {Promise<string>}
 */
async function checkNamedHost(host, env) {
  const isKnown = /^(unix|tcp|https?):\/\/./.test(host)
  const why = isKnown
    ? await whyNoEngine(host, env, { withinMs: pingMs })
    : 'only unix:// and tcp:// are understood'
  if (why === null) return host
  const tls = isTrue(env.DOCKER_TLS_VERIFY) ? ' (with TLS, as DOCKER_TLS_VERIFY says)' : ''
  throw new SetupError('engine.unreachable', {
    what: `no container engine answers at DOCKER_HOST=${host}${tls}`,
    why,
    fix: 'start that engine, correct DOCKER_HOST, or unset it to use the one on this machine',
  })
}

/**
 * @param {string} host
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log, keep: boolean}} options
 * @returns {Promise<Engine>}
 */
async function useFound(host, { dataDir, env, log, keep }) {
  const say = areaLog(log, 'engine')
  const state = readService(stateFile(dataDir))
  if (state?.url === host && isAlive(state)) {
    joinService(stateFile(dataDir), state, { keep })
    say(`using ${await describe(host, env)}, which an earlier set-up started as process ${state.pid}`)
    return engineOf(state, { dataDir, env, log, started: false })
  }
  say(`using ${await describe(host, env)}`)
  return { host, started: false, pid: null, stop: async () => {} }
}

/**
 * @param {ServiceState} state
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log, started: boolean}} options
 * @returns {Engine}
 */
function engineOf(state, { dataDir, env, log, started }) {
  const stop = () =>
    withLock({ dataDir, name: 'engine', log }, async () => {
      const { verdict, users } = leaveService(stateFile(dataDir), { expected: state, started })
      if (verdict === 'stop') await endEngine(state, { dataDir, env, log })
      else if (started && users[0]) areaLog(log, 'engine')(`left running for process ${users[0].pid}`)
    })
  return { host: state.url, started, pid: state.pid, stop }
}

/**
 * @param {ServiceState} state
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log}} options
 */
async function endEngine(state, { dataDir, env, log }) {
  const say = areaLog(log, 'engine')
  say(`stopping dockerd (process ${state.pid})`)
  await endDockerd(state, { env, say })
  forgetService(stateFile(dataDir))
  say('stopped')
}

/**
 * @param {string} host
 * @param {Env} env
 */
async function describe(host, env) {
  const { name, version } = await engineVersion(host, env)
  return `${name} ${version} on ${host}`
}

/** @param {string} dataDir */
function stateFile(dataDir) {
  return join(dataFolder(dataDir, 'run'), 'engine.json')
}

/** @param {{host: string, why: string}[]} tried */
function noRightsReason(tried) {
  const denied = tried.some(({ why }) => why.includes('EACCES'))
  if (denied) return 'this user may not open its socket (membership of the group docker gives that right)'
  return process.platform === 'linux' ? 'only root can start one' : 'none can be started by itself here'
}

/**
 * @param {{host: string, why: string}[]} tried
 * @param {string} reason
 */
function missingError(tried, reason) {
  return new SetupError('engine.missing', {
    what: 'no container engine answers',
    why: reason,
    fix: `start the one that is installed, install Docker (${installGuide}) or Podman, or set DOCKER_HOST`,
    details: tried.map(({ host, why }) => `${host}: ${why}`).join('\n'),
  })
}
