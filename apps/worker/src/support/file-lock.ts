import { randomUUID } from 'node:crypto'
import { link, lstat, mkdir, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isAlive } from './identity.js'
import { sleep } from './lifecycle.js'

/** Who takes a lock: as in the labels of containers. */
export interface LockOwner {
  readonly worker: string
  readonly host: string
}

interface Held extends LockOwner {
  /** Tells one taking from the next. */
  readonly token: string
}

/** How often a holder says that it lives, and after how long without that it does not, in milliseconds. */
const RENEW_MS = 10_000
const ABANDONED_MS = 60_000
const FIRST_LOOK_MS = 10
const LAST_LOOK_MS = 200

/**
 * Does work that no two workers on one data folder may do at once. A lock whose worker died is taken over: at once on
 * the same host, where its process can be looked for, after a minute of silence elsewhere.
 *
 * @param file the lock; its folder is made
 * @throws the signal's reason when it aborts while waiting
 */
export async function withFileLock<T>(
  file: string,
  owner: LockOwner,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const held: Held = { worker: owner.worker, host: owner.host, token: randomUUID() }
  await mkdir(join(file, '..'), { recursive: true, mode: 0o700 })
  for (let pause = FIRST_LOOK_MS; !(await take(file, held)); pause = Math.min(pause * 1.5, LAST_LOOK_MS)) {
    await sleep(pause, signal)
  }
  const renewing = setInterval(() => void renew(file), RENEW_MS)
  renewing.unref()
  try {
    return await work()
  } finally {
    clearInterval(renewing)
    if ((await read(file))?.token === held.token) await rm(file, { force: true })
  }
}

/** Removes from a folder of locks what dead processes of this host left: their locks, and what they were taking. */
export async function sweepLocks(folder: string, owner: LockOwner): Promise<void> {
  for (const name of await readdir(folder).catch(() => [])) {
    const file = join(folder, name)
    const [, host, worker] = DRAFT.exec(name) ?? []
    const held = host === undefined || worker === undefined ? await read(file) : { host, worker, token: '' }
    if (held?.host !== owner.host || isAlive(held.worker)) continue
    if (held.token === '') await rm(file, { force: true })
    else await clearAway(file, held)
  }
}

/** `<lock>.<host>~<worker>~<random>`: its name says whose it is, because it may not be written yet. */
const DRAFT = /\.([^.~]+)~([^~]+)~[^~]+$/

/** A link is made whole or not at all, so nobody reads a lock that is half written. */
async function take(file: string, held: Held): Promise<boolean> {
  const draft = `${file}.${held.host}~${held.worker}~${held.token}`
  await writeFile(draft, JSON.stringify(held), { mode: 0o600 })
  try {
    if (await linkOnce(draft, file)) return true
    const holder = await read(file)
    if (holder === null || !(await isAbandoned(file, draft, holder, held))) return false
    await clearAway(file, holder)
    return await linkOnce(draft, file)
  } finally {
    await rm(draft, { force: true })
  }
}

async function linkOnce(draft: string, file: string): Promise<boolean> {
  try {
    await link(draft, file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

/** The draft that was just written tells what time the disk has: another host's clock may differ from ours. */
async function isAbandoned(file: string, draft: string, holder: Held, ours: Held): Promise<boolean> {
  if (holder.host === ours.host && !isAlive(holder.worker)) return true
  const [lock, now] = await Promise.all([lstat(file).catch(() => null), lstat(draft).catch(() => null)])
  return lock !== null && now !== null && now.mtimeMs - lock.mtimeMs > ABANDONED_MS
}

/**
 * Of several that see a holder dead only one may remove its lock, and only while it is still that holder's: otherwise
 * a slow one would remove the lock that a quick one has just taken.
 */
async function clearAway(file: string, dead: Held): Promise<void> {
  const marker = `${file}.${dead.token}.dead`
  try {
    await writeFile(marker, '', { flag: 'wx', mode: 0o600 })
  } catch {
    const at = await lstat(marker).catch(() => null)
    if (at && Date.now() - at.mtimeMs > ABANDONED_MS) await rm(marker, { force: true })
    return
  }
  if ((await read(file))?.token === dead.token) await rm(file, { force: true })
  await rm(marker, { force: true })
}

async function renew(file: string): Promise<void> {
  const now = new Date()
  await utimes(file, now, now).catch(() => undefined)
}

async function read(file: string): Promise<Held | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Held
  } catch {
    return null
  }
}
