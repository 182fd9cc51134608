import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, isAbsolute, join, resolve } from 'node:path'

/** @typedef {Readonly<Record<string, string | undefined>>} Env the shape of `process.env` */

// A person's PATH often lacks these, and dockerd, iptables and modprobe live there.
const systemFolders = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/**
 * Where everything that outlives one run is kept.
 * @param {Env} env
 * @returns {string} absolute: `AGIRUNNER_DATA`, else `/var/lib/agirunner` for root, else the XDG state folder
 */
export function dataDirFrom(env) {
  if (env.AGIRUNNER_DATA) return resolve(env.AGIRUNNER_DATA)
  if (isRoot()) return '/var/lib/agirunner'
  // The XDG specification: a relative path here is invalid and is to be ignored.
  const state = env.XDG_STATE_HOME
  if (state && isAbsolute(state)) return join(state, 'agirunner')
  return join(env.HOME || homedir(), '.local', 'state', 'agirunner')
}

/** @returns {boolean} whether this process may act as the superuser */
export function isRoot() {
  return process.getuid?.() === 0
}

/**
 * @param {string | undefined} value
 * @returns {boolean} true for 1, true and yes in any case
 */
export function isTrue(value) {
  return /^(1|true|yes)$/i.test(value ?? '')
}

/**
 * Finds a program as a shell would.
 * @param {string} name
 * @param {Env} env whose PATH is searched
 * @param {{system?: boolean}} [options] `system`: also look where a person's PATH often doesn't reach
 *   (`/usr/sbin`)
 * @returns {string | null} its absolute path
 */
export function which(name, env, { system = false } = {}) {
  const folders = (env.PATH ?? '').split(delimiter).filter(Boolean)
  for (const folder of system ? [...folders, ...systemFolders] : folders) {
    const path = join(folder, name)
    if (isProgram(path)) return path
  }
  return null
}

/**
 * @param {Env} env
 * @returns {string} PATH with the system's own folders at its end, for children that call `iptables` or
 *   `mount`
 */
export function pathWithSystemFolders(env) {
  const folders = (env.PATH ?? '').split(delimiter).filter(Boolean)
  return [...folders, ...systemFolders.filter(folder => !folders.includes(folder))].join(delimiter)
}

/** @returns {boolean} whether this is Debian or a system made from it, apt-get included */
export function isDebianLike() {
  return process.platform === 'linux' && existsSync('/etc/debian_version') && existsSync('/usr/bin/apt-get')
}

/**
 * @returns {boolean} whether systemd runs this machine, so that installing a package may start its service
 */
export function hasSystemd() {
  return existsSync('/run/systemd/system')
}

/** @param {string} path */
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}
