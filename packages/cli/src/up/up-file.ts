import { randomUUID } from 'node:crypto'
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CliError, EXIT } from '../errors.js'

/** What `agirunner up` tells the other commands, in `$AGIRUNNER_DATA/up.json`. It holds secrets: mode 0600. */
export interface UpRecord {
  readonly version: 1
  readonly pid: number
  readonly redisUrl: string
  readonly dockerHost: string
  readonly queue: string
  readonly worker: { readonly pid: number; readonly id: string }
  readonly board: {
    readonly pid: number
    readonly url: string
    readonly user: string
    /** Null when the operator has set it, and knows it. */
    readonly password: string | null
  }
}

/** Null when there is none that can be read. */
export function readUp(dataDir: string): UpRecord | null {
  return readJson<UpRecord>(join(dataDir, 'up.json'))
}

/** Whoever reads meanwhile sees all of the old or all of the new. */
export function writeUp(dataDir: string, record: UpRecord): void {
  const file = join(dataDir, 'up.json')
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 })
  renameSync(draft, file)
}

export function removeUp(dataDir: string): void {
  rmSync(join(dataDir, 'up.json'), { force: true })
}

interface Owner {
  readonly pid: number
  /** Tells a process from a later one with the same number; only compared. Empty where the system doesn't tell. */
  readonly startTime: string
  readonly token: string
}

/**
 * Makes this process the one `up` of a data folder. What a dead one left is taken over.
 *
 * @returns a function that gives it up
 * @throws CliError while another one is alive
 */
export function claimUp(dataDir: string): () => void {
  makeDataDir(dataDir)
  const file = join(dataDir, 'up.lock')
  const owner: Owner = { pid: process.pid, startTime: startTimeOf(process.pid), token: randomUUID() }
  const taken = tryTake(file, owner) || (clearDead(file) && tryTake(file, owner))
  if (!taken) {
    const pid = readJson<Owner>(file)?.pid ?? 'unknown'
    throw new CliError(
      `agirunner is up already; process ${pid} uses the data folder ${dataDir}; ` +
        'use that one, stop it with Ctrl-C or SIGTERM, or set AGIRUNNER_DATA to another folder',
    )
  }
  return () => {
    if (readJson<Owner>(file)?.token === owner.token) rmSync(file, { force: true })
  }
}

/** Whether an `up` with this data folder is running. */
export function isUp(dataDir: string): boolean {
  const owner = readJson<Owner>(join(dataDir, 'up.lock'))
  return owner !== null && isAlive(owner)
}

function makeDataDir(dataDir: string): void {
  try {
    mkdirSync(dataDir, { recursive: true })
  } catch (error) {
    const why = (error as Error).message
    throw new CliError(
      `the data folder ${dataDir} can't be made; ${why}; set AGIRUNNER_DATA to a folder that you can write to`,
      EXIT.infrastructure,
    )
  }
}

/** A link is made whole or not at all, so nobody reads a lock that is half written. */
function tryTake(file: string, owner: Owner): boolean {
  const draft = `${file}.${owner.token}`
  writeFileSync(draft, JSON.stringify(owner), { mode: 0o600 })
  try {
    linkSync(draft, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  } finally {
    rmSync(draft, { force: true })
  }
}

/**
 * Removes the lock of a dead process. Of several that see it dead only one may, and only while it still is that one's:
 * a slow one would else remove the lock that a quick one has just taken.
 */
function clearDead(file: string): boolean {
  const dead = readJson<Owner>(file)
  if (!dead) return true
  if (isAlive(dead)) return false
  const marker = `${file}.${dead.token}.dead`
  try {
    writeFileSync(marker, '', { flag: 'wx' })
  } catch {
    return false
  }
  if (readJson<Owner>(file)?.token === dead.token) rmSync(file, { force: true })
  rmSync(marker, { force: true })
  return true
}

function isAlive({ pid, startTime }: Owner): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: it is there, and somebody else's.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  return startTimeOf(pid) === startTime
}

/** Field 22 of /proc/<pid>/stat, in clock ticks since boot; the name before it may hold blanks and brackets. */
function startTimeOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}

function readJson<T>(file: string): T | null {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as T
  } catch {
    return null
  }
}
