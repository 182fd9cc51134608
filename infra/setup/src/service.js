import { rmSync } from 'node:fs'
import { readJson, writePrivateFile } from './files.js'
import { isAlive, ownProcess } from './processes.js'

/** @typedef {import('./processes.js').ProcessId} ProcessId */

/**
 * What is known of a service that a set-up started, kept in a file so that the next set-up finds it, also
 * after the one that started it was killed.
 * @typedef {object} ServiceState
 * @property {number} pid
 * @property {string} startTime with `pid`, tells the service from a later process with the same number
 * @property {string} url how to reach it
 * @property {string | null} container the id when it runs in a container; `pid` is then 0
 * @property {ProcessId[]} users the processes that use it now
 * @property {boolean} keep it is to run until somebody says `setup --stop`
 * @property {boolean} handedOver who started it is done with it: the last user stops it
 */

/**
 * What a caller gets for a service, its own or not.
 * @typedef {object} Service
 * @property {boolean} started whether this call started it
 * @property {number | null} pid null when it is not a process that a set-up started here
 * @property {() => Promise<void>} stop ends it if this call started it and nobody else uses it any more
 */

/**
 * @param {string} file
 * @returns {ServiceState | null} null when there is none, or it can't be read; says nothing of whether it
 *   runs
 */
export function readService(file) {
  const read = /** @type {Partial<ServiceState> | null} */ (readJson(file))
  if (typeof read?.pid !== 'number' || typeof read.startTime !== 'string' || typeof read.url !== 'string')
    return null
  return {
    pid: read.pid,
    startTime: read.startTime,
    url: read.url,
    container: typeof read.container === 'string' ? read.container : null,
    users: Array.isArray(read.users) ? read.users : [],
    keep: read.keep === true,
    handedOver: read.handedOver === true,
  }
}

/**
 * @param {string} file
 * @param {{pid?: number, startTime?: string, url: string, container?: string | null, keep: boolean}} service
 * @returns {ServiceState} as written, with this process as its only user
 */
export function recordService(file, { pid = 0, startTime = '', url, container = null, keep }) {
  const state = { pid, startTime, url, container, users: [ownProcess()], keep, handedOver: false }
  writeService(file, state)
  return state
}

/**
 * Adds this process to its users.
 * @param {string} file
 * @param {ServiceState} state
 * @param {{keep: boolean}} options `keep`: it is from now on to run until somebody says otherwise
 */
export function joinService(file, state, { keep }) {
  writeService(file, { ...state, users: [...otherUsers(state), ownProcess()], keep: state.keep || keep })
}

/**
 * Takes this process off the users, and tells what is to become of the service.
 * @param {string} file
 * @param {{expected: ServiceState, started: boolean}} options `expected`: the service meant; another one in
 *   its place is left alone. `started`: whether the caller started it
 * @returns {{verdict: 'stop' | 'leave', users: ProcessId[]}} `users`: who else uses it
 */
export function leaveService(file, { expected, started }) {
  const state = readService(file)
  if (!state || !isSame(state, expected)) return { verdict: 'leave', users: [] }
  const users = otherUsers(state)
  const mayStop = (started || state.handedOver) && !state.keep
  if (mayStop && users.length === 0) return { verdict: 'stop', users }
  writeService(file, { ...state, users, handedOver: mayStop })
  return { verdict: 'leave', users }
}

/** @param {string} file */
export function forgetService(file) {
  rmSync(file, { force: true })
}

/**
 * @param {ServiceState} a
 * @param {ServiceState} b
 */
function isSame(a, b) {
  return a.pid === b.pid && a.startTime === b.startTime && a.container === b.container
}

/** @param {ServiceState} state */
function otherUsers(state) {
  return state.users.filter(user => user.pid !== process.pid && isAlive(user))
}

/**
 * @param {string} file
 * @param {ServiceState} state
 */
function writeService(file, state) {
  writePrivateFile(file, `${JSON.stringify(state, null, 2)}\n`)
}
