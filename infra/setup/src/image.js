import { createReadStream, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensurePackageLists, installPackages, whyNoInstall } from './apt.js'
import { callChecked, callEngine, engineVersion } from './engine-api.js'
import { dataDirFrom, isDebianLike, which } from './environment.js'
import { messageOf, SetupError } from './errors.js'
import { dataFolder } from './files.js'
import { withLock } from './lock.js'
import { areaLog, withProgress } from './log.js'
import { run } from './processes.js'
import { packTar } from './tar.js'

/** @typedef {import('./environment.js').Env} Env */
/** @typedef {import('./log.js').Log} Log */
/** @typedef {{host: string, env: Env, dataDir: string, say: Log}} Context */

/** What the default image is called in the engine. A change of its content gets a new number. */
export const BASE_IMAGE = 'agirunner/debian-base:1'

const folder = fileURLToPath(new URL('../../images/debian-base/', import.meta.url))
const pullIdleMs = 30_000
const buildIdleMs = 10 * 60 * 1000
const imagePath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Makes sure that the engine has an image: it is there, or is pulled, or is built.
 * @param {{host: string, env: Env, log: Log, image?: string, dataDir?: string}} options `host` of the engine
 * @returns {Promise<{reference: string, id: string}>}
 * @throws {SetupError} image.unknown, image.build_failed, engine.request_failed
 */
export function ensureImage({ host, env, log, image = 'debian-base', dataDir = dataDirFrom(env) }) {
  if (image !== 'debian-base') throw unknownError(image)
  return withLock({ dataDir, name: 'image', log }, async () => {
    const say = areaLog(log, 'image')
    const context = { host, env, dataDir, say }
    const present = await idOf(context)
    if (present) say(`using ${BASE_IMAGE}`)
    else await obtain(context)
    const id = present ?? (await idOf(context))
    if (!id) throw failedError(['the engine took it and does not have it'])
    return { reference: BASE_IMAGE, id }
  })
}

/**
 * Tries one way after the other.
 * @param {Context} context
 * @throws {SetupError} image.build_failed, with why each way failed
 */
async function obtain(context) {
  const failures = []
  for (const way of [pull, buildFromPackages, buildFromDockerfile]) {
    try {
      const why = await way(context)
      if (why === null) return
      failures.push(why)
    } catch (error) {
      context.say(`${messageOf(error).split('\n')[0]}`)
      failures.push(messageOf(error))
    }
  }
  throw failedError(failures)
}

/**
 * @param {Context} context
 * @returns {Promise<string | null>} the image's id; null when the engine doesn't have it
 */
async function idOf({ host, env }) {
  const path = `/images/${BASE_IMAGE}/json`
  const { status, text } = await callEngine(host, env, { method: 'GET', path })
  return status === 200 ? String(JSON.parse(text).Id) : null
}

/** @typedef {(context: Context) => Promise<string | null>} Way null when done, else why it is none here */

/** @type {Way} */
async function pull({ host, env, say }) {
  const reference = env.AGIRUNNER_BASE_IMAGE_PULL
  if (!reference) return 'pull: AGIRUNNER_BASE_IMAGE_PULL names no image'
  const create = `/images/create?fromImage=${encodeURIComponent(withTag(reference))}`
  const call = { method: 'POST', path: create, idleMs: pullIdleMs }
  await withProgress(say, `pulling ${reference}`, () => callChecked(host, env, call))
  await tag({ host, env }, reference)
  return null
}

/**
 * Without a tag the engine would pull every tag there is.
 * @param {string} reference
 */
function withTag(reference) {
  const last = reference.slice(reference.lastIndexOf('/') + 1)
  return /[:@]/.test(last) ? reference : `${reference}:latest`
}

/**
 * @param {{host: string, env: Env}} engine
 * @param {string} reference
 */
async function tag({ host, env }, reference) {
  const [repo, name] = BASE_IMAGE.split(':')
  const path = `/images/${withTag(reference)}/tag?repo=${repo}&tag=${name}`
  await callChecked(host, env, { method: 'POST', path })
}

/** @type {Way} */
async function buildFromPackages(context) {
  const { host, env, dataDir, say } = context
  const reason = await whyNoPackages(context)
  if (reason) return `build from packages: ${reason}`
  if (!which('mmdebstrap', env)) await installPackages({ packages: ['mmdebstrap'], dataDir, env, say })
  else if (!whyNoInstall(env)) await ensurePackageLists({ dataDir, env, say })
  const logFile = join(dataFolder(dataDir, 'log'), 'image.log')
  const archive = join(dataFolder(dataDir, 'tmp'), `debian-base.${process.pid}.tar`)
  try {
    const build = () => run('sh', [join(folder, 'build.sh'), archive], { env, logFile })
    const { code, output } = await withProgress(say, `building ${BASE_IMAGE} from packages`, build)
    if (code !== 0)
      return `build from packages: build.sh ended with ${code}; its log is ${logFile}\n${output}`
    await withProgress(say, 'importing it', () => importArchive({ host, env }, archive))
    return null
  } finally {
    rmSync(archive, { force: true })
  }
}

/**
 * @param {Context} context
 * @returns {Promise<string | null>} why the image can't be built from packages here
 */
async function whyNoPackages({ host, env }) {
  if (!isDebianLike()) return 'this is neither Debian nor Ubuntu'
  const forbidden = which('mmdebstrap', env) ? null : whyNoInstall(env)
  if (forbidden) return `mmdebstrap is not installed and ${forbidden}`
  const architectures = /** @type {Record<string, string>} */ ({ x64: 'amd64', arm64: 'arm64' })
  const { arch } = await engineVersion(host, env)
  const own = architectures[process.arch] ?? process.arch
  return arch === own ? null : `the engine is ${arch} and this machine is ${own}`
}

/**
 * @param {{host: string, env: Env}} engine
 * @param {string} archive
 */
async function importArchive({ host, env }, archive) {
  // The tag goes into `repo`: Podman overlooks the parameter meant for it.
  const query = new URLSearchParams({ fromSrc: '-', repo: BASE_IMAGE })
  const changes = [`ENV ${imagePath}`, 'CMD ["/bin/sh"]']
  for (const [key, value] of Object.entries(labels('packages'))) changes.push(`LABEL ${key}=${value}`)
  for (const change of changes) query.append('changes', change)
  const body = createReadStream(archive)
  const headers = { 'content-type': 'application/x-tar' }
  const path = `/images/create?${query.toString()}`
  await callChecked(host, env, { method: 'POST', path, body, headers, idleMs: buildIdleMs })
}

/** @type {Way} */
async function buildFromDockerfile({ host, env, say }) {
  const names = ['Dockerfile', 'packages', 'customize.sh']
  const context = packTar(names.map(name => ({ name, content: readFileSync(join(folder, name)) })))
  const query = new URLSearchParams({
    t: BASE_IMAGE,
    labels: JSON.stringify(labels('dockerfile')),
    rm: '1',
    forcerm: '1',
  })
  const headers = { 'content-type': 'application/x-tar' }
  const call = {
    method: 'POST',
    path: `/build?${query.toString()}`,
    body: context,
    headers,
    idleMs: buildIdleMs,
  }
  await withProgress(say, `building ${BASE_IMAGE} with the engine`, () => callChecked(host, env, call))
  return null
}

/** @param {'packages' | 'dockerfile'} source */
function labels(source) {
  const version = BASE_IMAGE.split(':')[1] ?? ''
  return {
    'agirunner.image': 'debian-base',
    'agirunner.image.version': version,
    'agirunner.image.source': source,
  }
}

/** @param {string} image */
function unknownError(image) {
  return new SetupError('image.unknown', {
    what: `can't make the image ${image}`,
    why: 'debian-base is the only one that the set-up builds',
    fix: 'use debian-base, or pull that image with the engine',
  })
}

/** @param {readonly string[]} failures */
function failedError(failures) {
  return new SetupError('image.build_failed', {
    what: `can't get the image ${BASE_IMAGE}`,
    why: 'no way to it worked, as the lines below say',
    fix: 'install mmdebstrap, or let the engine reach a registry, or set AGIRUNNER_BASE_IMAGE_PULL to an image of yours',
    details: failures.join('\n'),
  })
}
