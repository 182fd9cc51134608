import { fileURLToPath } from 'node:url'
import { ensureEngine, stopStartedEngine } from './engine.js'
import { dataDirFrom } from './environment.js'
import { messageOf, SetupError } from './errors.js'
import { ensureImage } from './image.js'
import { ensureBuilt, ensurePackages } from './packages.js'
import { ensureRedis, stopStartedRedis } from './redis.js'

/** @typedef {import('./environment.js').Env} Env */
/** @typedef {import('./log.js').Log} Log */
/** @typedef {'packages' | 'build' | 'redis' | 'engine' | 'image'} Need `image` needs `engine` */

/**
 * @typedef {object} SetUp
 * @property {string | null} redisUrl with its password; null where Redis was not among the needs
 * @property {string | null} dockerHost as DOCKER_HOST wants it; null where the engine was not among the needs
 * @property {string | null} image the default image's reference; null where it was not among the needs
 * @property {string} dataDir
 * @property {() => Promise<void>} stop stops what this call started, last started first; all of it is tried,
 *   then the first failure is thrown
 */

const ownCheckout = fileURLToPath(new URL('../../../', import.meta.url))

/** @type {readonly Need[]} */
const everything = ['packages', 'build', 'redis', 'engine', 'image']

/**
 * Makes this machine ready: uses what is there, installs and starts what is missing, says each step. It can
 * be repeated, and run by several processes at once. What it began is undone when a later step fails.
 * @param {object} options
 * @param {string} [options.root] of the checkout; default: the one that this file is in
 * @param {Env} options.env
 * @param {Log} options.log
 * @param {readonly Need[]} [options.needs] default: everything
 * @param {boolean} [options.keep] what is started is to run on until `stopAll`
 * @param {AbortSignal} [options.signal] looked at between two steps; none is cut off midway
 * @returns {Promise<SetUp>}
 * @throws {SetupError}
 */
export async function setUp({ root = ownCheckout, env, log, needs = everything, keep = false, signal }) {
  const dataDir = dataDirFrom(env)
  const wanted = new Set(needs)
  /** @type {{stop: () => Promise<void>}[]} */
  const running = []
  const stop = () => stopInReverse(running)
  /**
   * @template T
   * @param {Need} need
   * @param {() => Promise<T>} step
   * @returns {Promise<T | null>}
   */
  const when = async (need, step) => {
    if (!wanted.has(need)) return null
    throwIfAborted(signal)
    return step()
  }
  try {
    await when('packages', () => ensurePackages({ root, env, log, dataDir }))
    await when('build', () => ensureBuilt({ root, env, log, dataDir }))
    const engine = await when('engine', () => ensureEngine({ dataDir, env, log, keep }))
    if (engine) running.push(engine)
    const redis = await when('redis', () => ensureRedis({ dataDir, env, log, keep }))
    if (redis) running.push(redis)
    const image = engine && (await when('image', () => ensureImage({ host: engine.host, env, log, dataDir })))
    throwIfAborted(signal)
    return {
      redisUrl: redis?.url ?? null,
      dockerHost: engine?.host ?? null,
      image: image?.reference ?? null,
      dataDir,
      stop,
    }
  } catch (error) {
    await stop().catch(failure => log(`setup: ${messageOf(failure)}`))
    throw error
  }
}

/**
 * Stops what earlier set-ups with this data folder started, kept or left behind, whoever uses it.
 * @param {{env: Env, log: Log}} options
 * @returns {Promise<boolean>} whether there was anything to stop
 */
export async function stopAll({ env, log }) {
  const options = { dataDir: dataDirFrom(env), env, log }
  // Redis first: it may run in a container of that engine.
  const redis = await stopStartedRedis(options)
  const engine = await stopStartedEngine(options)
  return redis || engine
}

/** @param {{stop: () => Promise<void>}[]} running is emptied, so that stopping again does nothing */
async function stopInReverse(running) {
  /** @type {unknown[]} */
  const failures = []
  for (let service = running.pop(); service; service = running.pop()) {
    await service.stop().catch(error => failures.push(error))
  }
  if (failures.length > 0) throw failures[0]
}

/** @param {AbortSignal | undefined} signal */
function throwIfAborted(signal) {
  if (!signal?.aborted) return
  throw new SetupError('aborted', {
    what: 'the set-up was stopped',
    why: 'it was asked to',
    fix: 'run it again',
  })
}
