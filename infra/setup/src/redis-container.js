import { findEngine } from './engine.js'
import { callChecked, callEngine } from './engine-api.js'
import { withProgress } from './log.js'

/** @typedef {import('./environment.js').Env} Env */

const defaultImage = 'redis:7'
const pullIdleMs = 60_000

/**
 * Runs Redis in a container, for machines that have an engine and no Redis. It reads `redis.conf` in its
 * folder.
 * @param {{host: string, env: Env, port: number, folder: string}} options `port` on 127.0.0.1; `folder` holds
 *   its data
 * @returns {Promise<string>} the container's id
 * @throws {import('./errors.js').SetupError} engine.request_failed
 */
export async function startRedisContainer({ host, env, port, folder }) {
  const body = {
    Image: imageOf(env),
    // The command line of the container shows no secret: the password is in the file.
    Entrypoint: ['redis-server', '/data/redis.conf'],
    Cmd: [],
    User: `${process.getuid?.() ?? 0}:${process.getgid?.() ?? 0}`,
    Labels: { 'agirunner.setup': 'redis' },
    ExposedPorts: { '6379/tcp': {} },
    HostConfig: {
      Binds: [`${folder}:/data`],
      PortBindings: { '6379/tcp': [{ HostIp: '127.0.0.1', HostPort: String(port) }] },
    },
  }
  const { text } = await callChecked(host, env, { method: 'POST', path: '/containers/create', body })
  const id = String(JSON.parse(text).Id)
  try {
    await callChecked(host, env, { method: 'POST', path: `/containers/${id}/start` })
    return id
  } catch (error) {
    await removeRedisContainer(id, env)
    throw error
  }
}

/**
 * @param {{host: string, env: Env, say: import('./log.js').Log}} options
 * @returns {Promise<void>} when the engine has the image; AGIRUNNER_REDIS_IMAGE names another than the
 *   default
 * @throws {import('./errors.js').SetupError} engine.request_failed
 */
export async function ensureRedisImage({ host, env, say }) {
  const image = imageOf(env)
  const { status } = await callEngine(host, env, { method: 'GET', path: `/images/${image}/json` })
  if (status === 200) return
  const path = `/images/create?fromImage=${encodeURIComponent(image)}`
  const call = { method: 'POST', path, idleMs: pullIdleMs }
  await withProgress(say, `pulling ${image}`, () => callChecked(host, env, call))
}

/** @param {Env} env */
function imageOf(env) {
  return env.AGIRUNNER_REDIS_IMAGE || defaultImage
}

/**
 * @param {string} id
 * @param {Env} env
 * @returns {Promise<boolean>}
 */
export async function containerRuns(id, env) {
  const { found: host } = await findEngine(env).catch(() => ({ found: null }))
  if (!host) return false
  const { status, text } = await callEngine(host, env, { method: 'GET', path: `/containers/${id}/json` })
  return status === 200 && JSON.parse(text).State?.Running === true
}

/**
 * @param {string} id
 * @param {Env} env
 */
export async function removeRedisContainer(id, env) {
  const { found: host } = await findEngine(env)
  if (!host) return
  const stop = { method: 'POST', path: `/containers/${id}/stop?t=30`, idleMs: 40_000 }
  await callEngine(host, env, stop)
  await callEngine(host, env, { method: 'DELETE', path: `/containers/${id}?force=1&v=1` })
}
