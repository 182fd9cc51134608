import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { hasSystemd, isDebianLike, isRoot, isTrue } from './environment.js'
import { SetupError } from './errors.js'
import { dataFolder } from './files.js'
import { withProgress } from './log.js'
import { run } from './processes.js'

/** @typedef {import('./environment.js').Env} Env */

const listsFolder = '/var/lib/apt/lists'
const policyFile = '/usr/sbin/policy-rc.d'
const listsMaxAgeMs = 24 * 60 * 60 * 1000
const lockTimeout = ['-o', 'DPkg::Lock::Timeout=120']

let updated = false

/**
 * @param {Env} env
 * @returns {string | null} why Debian packages can't be installed here; null when they can
 */
export function whyNoInstall(env) {
  if (isTrue(env.AGIRUNNER_NO_INSTALL)) return 'AGIRUNNER_NO_INSTALL forbids installing'
  if (!isDebianLike()) return 'this is neither Debian nor Ubuntu, so nothing is installed by itself'
  if (!isRoot()) return 'only root can install packages'
  return null
}

/**
 * Installs Debian packages, without what they merely recommend and without removing or reconfiguring any
 * other.
 * @param {{packages: readonly string[], dataDir: string, env: Env, say: import('./log.js').Log}} options
 * @returns {Promise<void>}
 * @throws {SetupError} install.forbidden, install.failed
 */
export async function installPackages({ packages, dataDir, env, say }) {
  const forbidden = whyNoInstall(env)
  if (forbidden) throw forbiddenError(packages, forbidden)
  const apt = aptRunner(dataDir, env)
  if (!updated && listsAreMissingOrOld()) await update(apt, say)
  let result = await withProgress(say, `installing ${packages.join(', ')}`, () => install(apt, packages))
  if (result.code !== 0 && !updated) {
    // Lists that are young but out of step with the archive name files that it no longer has.
    await update(apt, say)
    result = await withProgress(say, `installing ${packages.join(', ')} again`, () => install(apt, packages))
  }
  if (result.code !== 0) throw failedError(packages, result.output, apt.logFile)
}

/**
 * Fetches apt's package lists when there are none, once in the life of this process.
 * @param {{dataDir: string, env: Env, say: import('./log.js').Log}} options
 */
export async function ensurePackageLists({ dataDir, env, say }) {
  if (!updated && listsAreMissingOrOld()) await update(aptRunner(dataDir, env), say)
}

/**
 * @typedef {{run: (args: readonly string[]) => Promise<{code: number, output: string}>, logFile: string}} Apt
 */

/**
 * @param {string} dataDir
 * @param {Env} env
 * @returns {Apt}
 */
function aptRunner(dataDir, env) {
  const logFile = join(dataFolder(dataDir, 'log'), 'apt.log')
  const aptEnv = { ...env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' }
  return { logFile, run: args => run('apt-get', [...lockTimeout, ...args], { env: aptEnv, logFile }) }
}

/**
 * A source that is away is no reason to stop: what is needed may come from another, and else the install says
 * so.
 * @param {Apt} apt
 * @param {import('./log.js').Log} say
 */
async function update(apt, say) {
  updated = true
  await withProgress(say, 'fetching the package lists', () => apt.run(['update']))
}

/**
 * @param {Apt} apt
 * @param {readonly string[]} packages
 */
function install(apt, packages) {
  const args = ['install', '-y', '--no-install-recommends', '--no-remove', ...packages]
  return withoutServiceStarts(() => apt.run(args))
}

/**
 * Where no systemd runs, a package would start its service by its init script, unsupervised, and fail to
 * install when that fails. Debian's own way to say no is this file; one that is there already is left alone.
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function withoutServiceStarts(work) {
  if (hasSystemd() || existsSync(policyFile)) return work()
  writeFileSync(policyFile, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    return await work()
  } finally {
    rmSync(policyFile, { force: true })
  }
}

/**
 * @returns {boolean} the lists' change times tell when they were fetched; their modification times are the
 *   server's
 */
function listsAreMissingOrOld() {
  let newest = 0
  let packageLists = 0
  try {
    for (const name of readdirSync(listsFolder)) {
      if (name.includes('_Packages')) packageLists += 1
      newest = Math.max(newest, statSync(join(listsFolder, name)).ctimeMs)
    }
  } catch {
    return true
  }
  return packageLists === 0 || Date.now() - newest > listsMaxAgeMs
}

/**
 * @param {readonly string[]} packages
 * @param {string} why
 */
function forbiddenError(packages, why) {
  return new SetupError('install.forbidden', {
    what: `can't install ${packages.join(', ')}`,
    why,
    fix: `run \`apt-get install ${packages.join(' ')}\` as root`,
  })
}

/**
 * @param {readonly string[]} packages
 * @param {string} output
 * @param {string} logFile
 */
function failedError(packages, output, logFile) {
  return new SetupError('install.failed', {
    what: `installing ${packages.join(', ')} failed`,
    why: `apt-get says why in ${logFile}, which ends with the lines below`,
    fix: `mend that and try again, or run \`apt-get install ${packages.join(' ')}\` yourself`,
    details: output,
  })
}
