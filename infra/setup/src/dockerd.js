import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { installPackages } from './apt.js'
import { callEngine, whyNoEngine } from './engine-api.js'
import { hasSystemd, which } from './environment.js'
import { messageOf, SetupError } from './errors.js'
import { dataFolder } from './files.js'
import { workingIptables } from './iptables.js'
import { withProgress } from './log.js'
import { endProcess, isAlive, nameOf, run, startService, startTimeOf, tailOf, waitFor } from './processes.js'

/** @typedef {import('./environment.js').Env} Env */
/** @typedef {import('./processes.js').ProcessId} ProcessId */
/** @typedef {import('./log.js').Log} Log */

export const defaultSocket = '/var/run/docker.sock'
const defaultHost = `unix://${defaultSocket}`

// dockerd's own default: a second dockerd that finds it held ends before it takes the socket away from the
// first.
const pidFile = '/var/run/docker.pid'
const containerdPidFile = '/var/run/docker/containerd/containerd.pid'
const runFolder = '/run/docker'
const dataRoot = '/var/lib/docker'

const readyMs = 60_000
const stopMs = 45_000

/**
 * @param {Env} env
 * @returns {boolean} whether dockerd is installed
 */
export function dockerdIsThere(env) {
  return which('dockerd', env, { system: true }) !== null
}

/**
 * Installs Debian's Docker. Where systemd runs, its package starts the service, and this waits for it.
 * @param {{dataDir: string, env: Env, say: Log}} options
 * @throws {SetupError} install.forbidden, install.failed
 */
export async function installDockerd({ dataDir, env, say }) {
  await installPackages({ packages: ['docker.io', 'iptables', 'e2fsprogs', 'iproute2'], dataDir, env, say })
  if (hasSystemd()) await answers(env, 30_000)
}

/**
 * Starts dockerd on the default socket, with a log of its own.
 * @param {{dataDir: string, env: Env, say: Log, onLaunch: (own: ProcessId) => void}} options `onLaunch` is
 *   called as soon as there is a process
 * @returns {Promise<ProcessId | null>} null when another dockerd holds the machine and has come to answer
 *   meanwhile
 * @throws {SetupError} engine.start_failed
 */
export async function startDockerd({ dataDir, env, say, onLaunch }) {
  if (holderOf(pidFile, 'dockerd') !== null) return waitForTheirs(env, say)
  removeStale(pidFile, 'dockerd')
  removeStale(containerdPidFile, 'containerd')
  const folder = dataFolder(dataDir, 'engine')
  const logFile = join(folder, 'dockerd.log')
  await loadModules(env)
  const iptables = await workingIptables(env, join(folder, 'bin'))
  if (!iptables) throw noIptablesError()
  const command = which('dockerd', env, { system: true }) ?? 'dockerd'
  say(`starting dockerd on ${defaultSocket} with iptables-${iptables.variant}; its log is ${logFile}`)
  const own = await launch(command, { ...env, PATH: iptables.path }, logFile)
  onLaunch(own)
  return withProgress(say, 'waiting for dockerd to answer', () => waitForOwn(own, env, logFile))
}

/**
 * @param {string} command
 * @param {Env} env
 * @param {string} logFile
 */
async function launch(command, env, logFile) {
  // DOCKER_* mean something to clients only; a proxy or a certificate setting is meant for dockerd too.
  const daemonEnv = Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('DOCKER_')))
  try {
    return await startService(command, [], { env: daemonEnv, logFile })
  } catch (error) {
    throw startError(messageOf(error), logFile)
  }
}

/**
 * @param {ProcessId} own
 * @param {Env} env
 * @param {string} logFile
 * @returns {Promise<ProcessId | null>}
 */
async function waitForOwn(own, env, logFile) {
  const limit = performance.now() + readyMs
  while (performance.now() < limit) {
    if (!isAlive(own)) {
      // It lost against another one that was started at the same moment.
      if (await answers(env, 5000)) return null
      throw startError('it ended right after its start', logFile)
    }
    if (await answers(env, 200)) return own
  }
  await endProcess(own, { graceMs: stopMs })
  throw startError(`it did not answer within ${readyMs / 1000} s`, logFile)
}

/**
 * @param {Env} env
 * @param {Log} say
 * @returns {Promise<null>}
 */
async function waitForTheirs(env, say) {
  const pid = pidIn(pidFile)
  const ready = await withProgress(say, `waiting for dockerd (process ${pid}), which runs already`, () =>
    answers(env, readyMs),
  )
  if (ready) return null
  throw new SetupError('engine.start_failed', {
    what: `dockerd runs (process ${pid}) but does not answer on ${defaultSocket}`,
    why: 'it hangs, or it was told to listen elsewhere',
    fix: 'restart it, or set DOCKER_HOST to where it listens',
  })
}

/**
 * @param {Env} env
 * @param {number} withinMs
 */
function answers(env, withinMs) {
  const ping = async () =>
    (await whyNoEngine(defaultHost, env, { withinMs: Math.max(1000, withinMs) })) === null
  return waitFor(ping, { withinMs, everyMs: 50 })
}

/**
 * Stops a dockerd that a set-up started, and what it leaves: its containerd, its shims, its mounts.
 * @param {ProcessId} own
 * @param {{env: Env, say: Log}} options
 */
export async function endDockerd(own, { env, say }) {
  const root = await rootFolder(env)
  const containerd = holderOf(containerdPidFile, 'containerd')
  const outcome = await endProcess(own, { graceMs: stopMs })
  if (outcome === 'killed') say(`dockerd did not stop within ${stopMs / 1000} s and was killed`)
  if (containerd) await endProcess(containerd, { graceMs: 5000 })
  for (const shim of shims()) await endProcess(shim, { graceMs: 2000 })
  await unmountBelow([`${runFolder}/netns/`, `${runFolder}/containerd/`, `${root}/`], env)
  if (outcome === 'killed') removeStale(pidFile, 'dockerd')
}

/**
 * @param {Env} env
 * @returns {Promise<string>} where this dockerd keeps its images and containers
 */
async function rootFolder(env) {
  try {
    const { text } = await callEngine(defaultHost, env, { method: 'GET', path: '/info' })
    return JSON.parse(text).DockerRootDir || dataRoot
  } catch {
    return dataRoot
  }
}

/**
 * @returns {ProcessId[]} the containerd-shims of a dockerd's own containerd; one of the system's is not ours
 */
function shims() {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(
      pid => nameOf(pid)?.startsWith('containerd-shim') && commandLineOf(pid).includes('/docker/containerd/'),
    )
    .map(pid => ({ pid, startTime: startTimeOf(pid) ?? '' }))
}

/** @param {number} pid */
function commandLineOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

/**
 * Takes away mounts, the deepest first. One that is busy is detached, and goes when its last user does.
 * @param {readonly string[]} folders each ending with a slash
 * @param {Env} env
 */
export async function unmountBelow(folders, env) {
  const points = mountPoints().filter(point => folders.some(folder => point.startsWith(folder)))
  for (const point of points.sort((a, b) => b.length - a.length)) {
    const { code } = await run('umount', [point], { env, timeoutMs: 10_000 })
    if (code !== 0) await run('umount', ['-l', point], { env, timeoutMs: 10_000 })
  }
}

/** @returns {string[]} mountinfo writes blanks and the like as octal escapes */
function mountPoints() {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\n')
  return lines.map(line => {
    const escaped = line.split(' ')[4] ?? ''
    return escaped.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))
  })
}

/**
 * @param {string} file
 * @param {string} name of the program expected
 * @returns {ProcessId | null} the process whose number the file holds, when it runs and is that program
 */
function holderOf(file, name) {
  const pid = pidIn(file)
  const startTime = pid === null ? null : startTimeOf(pid)
  if (pid === null || startTime === null || nameOf(pid) !== name) return null
  return { pid, startTime }
}

/**
 * After a crash of the machine a pid file may name a process that has nothing to do with it, and dockerd
 * would refuse to start, or wait for a containerd that isn't one.
 * @param {string} file
 * @param {string} name
 */
function removeStale(file, name) {
  if (pidIn(file) !== null && holderOf(file, name) === null) rmSync(file, { force: true })
}

/** @param {string} file */
function pidIn(file) {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), 10) || null
  } catch {
    return null
  }
}

/**
 * Best effort: in many kernels these are built in, and dockerd says clearly what it misses.
 * @param {Env} env
 */
async function loadModules(env) {
  const modprobe = which('modprobe', env, { system: true })
  if (!modprobe) return
  for (const module of ['overlay', 'br_netfilter'])
    await run(modprobe, ['-q', module], { env, timeoutMs: 10_000 })
}

function noIptablesError() {
  return new SetupError('engine.start_failed', {
    what: "can't start dockerd",
    why: 'neither iptables-nft nor iptables-legacy can change the nat table of this kernel',
    fix: 'load the kernel modules that iptables needs, or run as root on a machine that has them, or set DOCKER_HOST',
  })
}

/**
 * @param {string} why
 * @param {string} logFile
 */
function startError(why, logFile) {
  return new SetupError('engine.start_failed', {
    what: "can't start dockerd",
    why: `${why}; its log ${logFile} ends with the lines below`,
    fix: 'mend what they say and try again, or set DOCKER_HOST to another engine',
    details: tailOf(logFile),
  })
}
