import { installPackages } from './apt.js'
import { areaLog } from './log.js'
import { run } from './processes.js'

/** @typedef {import('./environment.js').Env} Env */

/** Swift's libraries without its services: the tests run its servers themselves. */
const packages = ['python3-swift']

/**
 * Brings the S3-compatible server that tests and benchmarks store in: OpenStack Swift. Nothing is started.
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log}} options
 * @returns {Promise<void>}
 * @throws {import('./errors.js').SetupError} install.forbidden, install.failed
 */
export async function ensureS3Server({ dataDir, env, log }) {
  const found = await run('/usr/bin/python3', ['-c', 'import swift'], { env, timeoutMs: 10_000 })
  if (found.code === 0) return
  await installPackages({ packages, dataDir, env, say: areaLog(log, 's3') })
}
