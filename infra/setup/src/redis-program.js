import { basename } from 'node:path'
import { installPackages } from './apt.js'
import { which } from './environment.js'
import { run } from './processes.js'

/** @typedef {import('./environment.js').Env} Env */

/**
 * A Redis server that can be started. `argv0` is the name it must see itself called by.
 * @typedef {{command: string, argv0: string, name: string, version: string}} RedisProgram
 */

/**
 * @param {Env} env
 * @returns {Promise<RedisProgram | null>} the first on the PATH that works
 */
export async function findRedisProgram(env) {
  for (const name of ['redis-server', 'valkey-server', 'redis-check-rdb']) {
    const command = which(name, env)
    const program = command ? await identify(command, env) : null
    if (program) return program
  }
  return null
}

/**
 * Installs the program without its service. In Debian the server is one program with the checkers of
 * `redis-tools` (`redis-server` is but a link to `redis-check-rdb`), told apart by the name it is called by;
 * the package `redis-server` adds that link and a system service on port 6379, which nobody asked for.
 * @param {{dataDir: string, env: Env, say: import('./log.js').Log}} options
 * @returns {Promise<RedisProgram | null>} null when the package holds no server after all
 * @throws {import('./errors.js').SetupError} install.failed
 */
export async function installRedisProgram({ dataDir, env, say }) {
  await installPackages({ packages: ['redis-tools'], dataDir, env, say })
  return findRedisProgram(env)
}

/**
 * @param {string} command
 * @param {Env} env
 * @returns {Promise<RedisProgram | null>} null when it is no server
 */
async function identify(command, env) {
  const argv0 = basename(command) === 'redis-check-rdb' ? 'redis-server' : basename(command)
  const { output } = await run(command, ['--version'], { env, argv0, timeoutMs: 10_000 })
  const version = /^(?:Redis|Valkey) server v=(\S+)/.exec(output)?.[1]
  return version === undefined ? null : { command, argv0, name: argv0, version }
}
