import { randomUUID } from 'node:crypto'
import { linkSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { codeOf, SetupError } from './errors.js'
import { dataFolder, readJson } from './files.js'
import { areaLog } from './log.js'
import { isAlive, ownProcess, waitFor } from './processes.js'

/**
 * @typedef {import('./processes.js').ProcessId & {token: string}} Owner `token` tells one taking from the
 *   next
 */

const patienceMs = 20 * 60 * 1000
const reminderMs = 5000
const abandonedMs = 10_000

/**
 * Does work that two processes on one machine must not do at once. A lock whose owner died is taken over.
 * @template T
 * @param {{dataDir: string, name: string, log: import('./log.js').Log, patienceMs?: number}} options
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 * @throws {SetupError} lock.timeout
 */
export async function withLock({ dataDir, name, log, patienceMs: patience = patienceMs }, work) {
  const file = join(dataFolder(dataDir, 'run'), `${name}.lock`)
  const owner = { ...ownProcess(), token: randomUUID() }
  await take(file, owner, areaLog(log, name), patience)
  try {
    return await work()
  } finally {
    if (readOwner(file)?.token === owner.token) rmSync(file, { force: true })
  }
}

/**
 * @param {string} file
 * @param {Owner} owner
 * @param {import('./log.js').Log} say
 * @param {number} patience milliseconds
 */
async function take(file, owner, say, patience) {
  let nextReminder = 0
  const taken = await waitFor(
    () => {
      if (tryTake(file, owner)) return true
      const holder = readOwner(file)
      if (holder && !isAlive(holder)) {
        clearAway(file, holder)
        return tryTake(file, owner)
      }
      if (holder && performance.now() >= nextReminder) {
        nextReminder = performance.now() + reminderMs
        say(`waiting for another set-up (process ${holder.pid}) to finish`)
      }
      return false
    },
    { withinMs: patience, everyMs: 100 },
  )
  if (taken) return
  throw new SetupError('lock.timeout', {
    what: 'another set-up does not finish',
    why: `process ${readOwner(file)?.pid ?? 'unknown'} still holds ${file}`,
    fix: 'wait for that process or end it, then try again',
  })
}

/**
 * A link is made whole or not at all, so nobody ever reads a lock that is half written.
 * @param {string} file
 * @param {Owner} owner
 * @returns {boolean} false when somebody else holds it
 */
function tryTake(file, owner) {
  const draft = `${file}.${owner.token}`
  writeFileSync(draft, JSON.stringify(owner), { mode: 0o600 })
  try {
    linkSync(draft, file)
    return true
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false
    throw error
  } finally {
    rmSync(draft, { force: true })
  }
}

/**
 * Removes the lock of a dead owner. Of several processes that see it dead only one may, and only while it is
 * still that owner's: otherwise a slow one would remove the lock that a quick one has just taken.
 * @param {string} file
 * @param {Owner} dead
 */
function clearAway(file, dead) {
  const marker = `${file}.${dead.token}.dead`
  try {
    writeFileSync(marker, '', { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
    removeIfAbandoned(marker)
    return
  }
  if (readOwner(file)?.token === dead.token) rmSync(file, { force: true })
  rmSync(marker, { force: true })
}

/** @param {string} marker left by a process that died between two lines of clearAway */
function removeIfAbandoned(marker) {
  try {
    if (Date.now() - statSync(marker).mtimeMs > abandonedMs) rmSync(marker, { force: true })
  } catch {
    // Its maker has just removed it.
  }
}

/**
 * @param {string} file
 * @returns {Owner | null}
 */
function readOwner(file) {
  const read = /** @type {Partial<Owner> | null} */ (readJson(file))
  if (typeof read?.pid !== 'number' || typeof read.startTime !== 'string' || typeof read.token !== 'string')
    return null
  return { pid: read.pid, startTime: read.startTime, token: read.token }
}
