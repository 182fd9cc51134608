import { existsSync, readFileSync, statSync, utimesSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { dataDirFrom, isTrue, which } from './environment.js'
import { SetupError } from './errors.js'
import { dataFolder } from './files.js'
import { withLock } from './lock.js'
import { areaLog, withProgress } from './log.js'
import { run } from './processes.js'

/** @typedef {import('./environment.js').Env} Env */
/**
 * @typedef {{root: string, env: Env, log: import('./log.js').Log, dataDir?: string}} Options `root` of the
 *   checkout
 */

/**
 * Installs the npm packages exactly as the lockfile says, when they are missing or older than it.
 * @param {Options} options
 * @returns {Promise<boolean>} whether anything had to be installed
 * @throws {SetupError} packages.missing (AGIRUNNER_NO_INSTALL), packages.failed
 */
export function ensurePackages({ root, env, log, dataDir = dataDirFrom(env) }) {
  return withLock({ dataDir, name: 'packages', log }, async () => {
    const say = areaLog(log, 'packages')
    if (packagesAreFresh(root)) {
      say('as the lockfile says')
      return false
    }
    if (isTrue(env.AGIRUNNER_NO_INSTALL)) throw missingError(root)
    await install({ root, env, dataDir, say })
    return true
  })
}

/**
 * Compiles what has changed.
 * @param {Options} options
 * @throws {SetupError} build.failed, with the compiler's last lines
 */
export function ensureBuilt({ root, env, log, dataDir = dataDirFrom(env) }) {
  return withLock({ dataDir, name: 'packages', log }, async () => {
    // What `pnpm exec tsc -b` would run, without asking npx for pnpm each time.
    const compile = () => run(join(root, 'node_modules', '.bin', 'tsc'), ['-b'], { cwd: root, env })
    const { code, output } = await withProgress(areaLog(log, 'build'), 'compiling', compile)
    if (code === 0) return
    throw new SetupError('build.failed', {
      what: 'the build failed',
      why: 'the compiler says why below',
      fix: 'mend that and try again',
      details: output.trimEnd().split('\n').slice(-40).join('\n'),
    })
  })
}

/**
 * Runs pnpm, in the version that the root's package.json names, by npx: neither corepack nor a pnpm of its
 * own is needed.
 * @param {readonly string[]} args
 * @param {{root: string, env: Env, logFile?: string, inherit?: boolean}} options where its output goes; else
 *   it is returned
 * @returns {Promise<{code: number, output: string}>}
 */
export function pnpm(args, { root, env, logFile, inherit = false }) {
  // CI: it must never stop to ask.
  const pnpmEnv = { CI: 'true', ...env }
  const output = logFile === undefined ? { inherit } : { logFile }
  return run(npxPath(env), ['-y', `pnpm@${pnpmVersion(root)}`, ...args], {
    cwd: root,
    env: pnpmEnv,
    ...output,
  })
}

/**
 * @param {string} root
 * @returns {boolean} whether node_modules is there and not older than the lockfile
 */
function packagesAreFresh(root) {
  const installed = installedMark(root)
  if (!existsSync(installed)) return false
  return statSync(installed).mtimeMs >= statSync(join(root, 'pnpm-lock.yaml')).mtimeMs
}

/** @param {{root: string, env: Env, dataDir: string, say: import('./log.js').Log}} options */
async function install({ root, env, dataDir, say }) {
  const logFile = join(dataFolder(dataDir, 'log'), 'packages.log')
  const args = ['install', '--frozen-lockfile']
  const work = () => pnpm(args, { root, env, logFile })
  const { code, output } = await withProgress(say, `installing with pnpm ${pnpmVersion(root)}`, work)
  if (code !== 0) throw failedError(root, output, logFile)
  // pnpm leaves it untouched when there was nothing to do, and then it would be asked again each time.
  const now = new Date()
  if (existsSync(installedMark(root))) utimesSync(installedMark(root), now, now)
}

/** @param {string} root */
function installedMark(root) {
  return join(root, 'node_modules', '.modules.yaml')
}

/**
 * @param {string} root
 * @returns {string}
 */
function pnpmVersion(root) {
  const { devEngines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  return String(devEngines.packageManager.version)
}

/**
 * @param {Env} env
 * @returns {string} the npx that came with this Node.js, else the one on the PATH
 */
function npxPath(env) {
  const own = join(dirname(process.execPath), 'npx')
  return existsSync(own) ? own : (which('npx', env) ?? 'npx')
}

/** @param {string} root */
function installCommand(root) {
  return `npx -y pnpm@${pnpmVersion(root)} install --frozen-lockfile`
}

/** @param {string} root */
function missingError(root) {
  return new SetupError('packages.missing', {
    what: 'the npm packages are missing or older than pnpm-lock.yaml',
    why: 'AGIRUNNER_NO_INSTALL forbids installing',
    fix: `run \`${installCommand(root)}\` in ${root}`,
  })
}

/**
 * @param {string} root
 * @param {string} output
 * @param {string} logFile
 */
function failedError(root, output, logFile) {
  return new SetupError('packages.failed', {
    what: 'installing the npm packages failed',
    why: `pnpm says why in ${logFile}, which ends with the lines below`,
    fix: `mend that and try again, or run \`${installCommand(root)}\` in ${root}`,
    details: output,
  })
}
