import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { unmountBelow } from './dockerd.js'
import { isRoot } from './environment.js'
import { messageOf } from './errors.js'
import { readJson } from './files.js'
import { signalNumber } from './processes.js'
import { findRedisProgram } from './redis-program.js'

/** @typedef {import('./environment.js').Env} Env */

/**
 * @returns {string} a new, empty data folder; on a real disk where the system has one for temporary files,
 *   because /tmp may be memory, and tests put disk images and overlays there
 */
export function makeTestData() {
  return mkdtempSync(join(existsSync('/var/tmp') ? '/var/tmp' : tmpdir(), 'agirunner-test-'))
}

/**
 * Removes a data folder with everything that tests left in it, mounts included.
 * @param {string} folder
 * @param {{env: Env, log: import('./log.js').Log}} options
 */
export async function removeTestData(folder, { env, log }) {
  try {
    if (process.platform === 'linux' && isRoot()) await unmountBelow([`${folder}/`], env)
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  } catch (error) {
    log(`setup: test: can't remove ${folder}; ${messageOf(error)}; remove it yourself`)
  }
}

/**
 * Tests start Redis servers of their own, by the name `redis-server`; Debian's `redis-tools` has the program but not
 * the name. A folder of the tests' own gives it one.
 * @param {string} dataDir of the tests alone
 * @param {Env} env
 * @returns {Promise<string>} the PATH for the tests
 */
export async function pathWithRedis(dataDir, env) {
  const program = await findRedisProgram(env)
  if (program === null) return env.PATH ?? ''
  const folder = join(dataDir, 'bin')
  mkdirSync(folder, { recursive: true })
  symlinkSync(program.command, join(folder, 'redis-server'))
  return `${folder}:${env.PATH ?? ''}`
}

/**
 * Runs jest as a child, and passes SIGINT and SIGTERM on to it.
 * @param {{root: string, env: Env, args: readonly string[], signal: AbortSignal}} options `signal`: its
 *   reason is the name of the signal to pass on
 * @returns {Promise<number>} the exit code, 128 + n after a signal
 */
export function runJest({ root, env, args, signal }) {
  const jest = join(root, 'node_modules', 'jest', 'bin', 'jest.js')
  // That jest needs an experimental flag is known; said once per worker it buries what matters.
  const command = ['--experimental-vm-modules', '--no-warnings', jest, '--config', 'jest.config.mjs', ...args]
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, command, { cwd: root, env: { ...env }, stdio: 'inherit' })
    const pass = () => child.kill(signal.reason)
    signal.addEventListener('abort', pass, { once: true })
    child.once('error', reject)
    child.once('close', (code, ended) => {
      signal.removeEventListener('abort', pass)
      resolve(code ?? 128 + signalNumber(ended))
    })
  })
}

/**
 * @param {string} file that the reporter wrote
 * @param {number} code the exit code of the whole run
 * @returns {{passed: number, failed: number}} a run that failed without a failed test, or died before it
 *   could tell, counts as one failure
 */
export function readTotals(file, code) {
  const read = /** @type {{passed?: number, failed?: number} | null} */ (readJson(file))
  const passed = read?.passed ?? 0
  const failed = read?.failed ?? 0
  return { passed, failed: code === 0 ? failed : Math.max(1, failed) }
}
