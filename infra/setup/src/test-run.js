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

/** How long one file of tests may run before it counts as hanging, in milliseconds; the longest takes two minutes. */
const HANGING_MS = 10 * 60_000

/**
 * Runs jest as a child, and passes SIGINT and SIGTERM on to it. A file of tests that hangs so badly that jest's own
 * time limits can't end it (a loop that never lets go of its thread) is named and ends the run.
 * @param {{root: string, env: Env, args: readonly string[], signal: AbortSignal, log: import('./log.js').Log,
 *   totals: string, hangingMs?: number, lookMs?: number}} options `signal`: its reason is the name of the signal to
 *   pass on; `totals`: the file that the reporter writes
 * @returns {Promise<number>} the exit code, 128 + n after a signal
 */
export function runJest({ root, env, args, signal, log, totals, hangingMs = HANGING_MS, lookMs = 1000 }) {
  const jest = join(root, 'node_modules', 'jest', 'bin', 'jest.js')
  // That jest needs an experimental flag is known; said once per worker it buries what matters.
  const command = ['--experimental-vm-modules', '--no-warnings', jest, '--config', 'jest.config.mjs', ...args]
  return new Promise((resolve, reject) => {
    // A process group of its own: a worker that hangs hears nothing, not even that its parent is gone.
    const child = spawn(process.execPath, command, {
      cwd: root,
      env: { ...env, AGIRUNNER_TEST_TOTALS: totals },
      stdio: 'inherit',
      detached: true,
    })
    const pass = () => child.kill(signal.reason)
    const watch = setInterval(() => {
      const hanging = hangingFiles(totals, hangingMs)
      if (hanging.length === 0 || child.pid === undefined) return
      log(`setup: test: hangs after ${hangingMs / 60_000} minutes, and is killed: ${hanging.join(', ')}`)
      clearInterval(watch)
      process.kill(-child.pid, 'SIGKILL')
    }, lookMs)
    signal.addEventListener('abort', pass, { once: true })
    child.once('error', reject)
    child.once('close', (code, ended) => {
      clearInterval(watch)
      signal.removeEventListener('abort', pass)
      resolve(code ?? 128 + signalNumber(ended))
    })
  })
}

/** @typedef {{passed?: number, failed?: number, running?: {path: string, since: number}[]}} StoredTotals */

/**
 * @param {string} file that the reporter writes
 * @param {number} hangingMs
 */
function hangingFiles(file, hangingMs) {
  const { running = [] } = /** @type {StoredTotals} */ (readJson(file) ?? {})
  return running.filter(({ since }) => Date.now() - since > hangingMs).map(({ path }) => path)
}

/**
 * @param {string} file that the reporter wrote
 * @param {number} code the exit code of the whole run
 * @returns {{passed: number, failed: number}} a run that failed without a failed test, or died before it
 *   could tell, counts as one failure
 */
export function readTotals(file, code) {
  const read = /** @type {StoredTotals | null} */ (readJson(file))
  const passed = read?.passed ?? 0
  const failed = read?.failed ?? 0
  return { passed, failed: code === 0 ? failed : Math.max(1, failed) }
}
