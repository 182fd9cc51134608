import { readFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { join } from 'node:path'
import { isTrue } from './environment.js'
import { messageOf, SetupError } from './errors.js'

/** @typedef {import('./environment.js').Env} Env */

/**
 * @typedef {object} ApiCall
 * @property {string} method
 * @property {string} path with its query
 * @property {import('node:stream').Readable | Buffer | object} [body] an object is sent as JSON
 * @property {Record<string, string>} [headers]
 * @property {number} [idleMs] the connection may be silent for that long; default 10 s
 * @property {AbortSignal} [signal]
 */

const idleMsDefault = 10_000

/**
 * One call of the Docker API, which Podman serves too.
 * @param {string} host `unix:///path`, `tcp://name:port` or `http(s)://name:port`; with DOCKER_TLS_VERIFY tcp
 *   means TLS
 * @param {Env} env for DOCKER_TLS_VERIFY and DOCKER_CERT_PATH
 * @param {ApiCall} call
 * @returns {Promise<{status: number, text: string}>} whatever the status
 * @throws {Error} the system's own, when there is no answer
 */
export function callEngine(host, env, { method, path, body, headers = {}, idleMs = idleMsDefault, signal }) {
  const isStream = body !== undefined && 'pipe' in body && typeof body.pipe === 'function'
  const payload =
    isStream || Buffer.isBuffer(body) || body === undefined ? body : Buffer.from(JSON.stringify(body))
  const type = payload === body ? {} : { 'content-type': 'application/json' }
  const { send, options } = transport(host, env)
  return new Promise((resolve, reject) => {
    const request = send(
      { ...options, method, path, headers: { ...type, ...headers }, ...(signal ? { signal } : {}) },
      response => {
        /** @type {Buffer[]} */
        const chunks = []
        response.on('data', chunk => chunks.push(chunk))
        response.once('error', reject)
        response.once('end', () => {
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() })
        })
      },
    )
    request.setTimeout(idleMs, () => request.destroy(new Error(`no answer within ${idleMs / 1000} s`)))
    request.once('error', reject)
    if (isStream) {
      const stream = /** @type {import('node:stream').Readable} */ (payload)
      stream.once('error', error => request.destroy(error))
      stream.pipe(request)
    } else {
      request.end(payload)
    }
  })
}

/**
 * @param {string} host
 * @param {Env} env
 * @returns {{send: typeof httpRequest, options: import('node:https').RequestOptions}}
 */
function transport(host, env) {
  if (host.startsWith('unix://')) {
    return { send: httpRequest, options: { socketPath: host.slice('unix://'.length), agent: false } }
  }
  const url = new URL(host.replace(/^tcp:/, 'http:'))
  const address = { hostname: url.hostname.replace(/^\[|\]$/g, ''), agent: /** @type {const} */ (false) }
  if (url.protocol !== 'https:' && !isTrue(env.DOCKER_TLS_VERIFY)) {
    return { send: httpRequest, options: { ...address, port: url.port || 2375 } }
  }
  return { send: httpsRequest, options: { ...address, port: url.port || 2376, ...certificates(env) } }
}

/** @param {Env} env */
function certificates(env) {
  const folder = env.DOCKER_CERT_PATH || join(env.HOME ?? '', '.docker')
  /** @param {string} name */
  const read = name => readFileSync(join(folder, name))
  return { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') }
}

/**
 * @param {string} host
 * @param {Env} env
 * @param {{withinMs: number}} options
 * @returns {Promise<string | null>} null when an engine answers there, else why not
 */
export async function whyNoEngine(host, env, { withinMs }) {
  try {
    const signal = AbortSignal.timeout(withinMs)
    const { status } = await callEngine(host, env, {
      method: 'GET',
      path: '/_ping',
      idleMs: withinMs,
      signal,
    })
    return status === 200 ? null : `it answered with status ${status}`
  } catch (error) {
    return error instanceof Error && error.name === 'AbortError' ? 'no answer in time' : messageOf(error)
  }
}

/**
 * @param {string} host
 * @param {Env} env
 * @returns {Promise<{name: string, version: string, arch: string}>} `arch` as in Go: amd64, arm64
 */
export async function engineVersion(host, env) {
  const { text } = await callChecked(host, env, { method: 'GET', path: '/version' })
  const answer = JSON.parse(text)
  const isPodman = /podman/i.test(JSON.stringify(answer.Components ?? []))
  return { name: isPodman ? 'Podman' : 'Docker', version: String(answer.Version), arch: String(answer.Arch) }
}

/**
 * A call that must succeed. Calls that answer with a stream of JSON lines report most of their failures in
 * there.
 * @param {string} host
 * @param {Env} env
 * @param {ApiCall} call
 * @returns {Promise<{status: number, text: string}>}
 * @throws {SetupError} engine.request_failed
 */
export async function callChecked(host, env, call) {
  const answer = await callEngine(host, env, call).catch(error => {
    throw requestError(host, call, messageOf(error), error)
  })
  if (answer.status >= 400) throw requestError(host, call, reasonIn(answer.text) || `status ${answer.status}`)
  const failure = call.method === 'POST' ? failureIn(answer.text) : null
  if (failure) throw requestError(host, call, failure)
  return answer
}

/**
 * @param {string} text one JSON value a line
 * @returns {string | null} the message of the first line that reports a failure
 */
function failureIn(text) {
  for (const line of text.split('\n')) {
    const failure = line.includes('"error"') ? textField(line, 'error') : null
    if (failure) return failure
  }
  return null
}

/** @param {string} text */
function reasonIn(text) {
  return textField(text, 'message') ?? text.slice(0, 300)
}

/**
 * @param {string} json
 * @param {string} name
 * @returns {string | null} null when it isn't JSON or holds no such text
 */
function textField(json, name) {
  try {
    const value = JSON.parse(json)?.[name]
    return typeof value === 'string' ? value : null
  } catch {
    return null
  }
}

/**
 * @param {string} host
 * @param {ApiCall} call
 * @param {string} why
 * @param {unknown} [cause]
 */
function requestError(host, call, why, cause) {
  return new SetupError('engine.request_failed', {
    what: `the container engine at ${host} refused ${call.method} ${call.path.split('?')[0]}`,
    why,
    fix: "look at the engine's log, then try again",
    cause,
  })
}
