/** Above everything that expires; no tenant's name begins so. */
export const EXPIRIES = '_expiries/'

/**
 * Below the prefix: the folder of one attempt, with a `/` at its end. The nonce makes sure that nothing is ever written
 * over: fences begin anew in a Redis that lost its data, and two queues may share a bucket by mistake.
 */
export function attemptFolder(of: {
  readonly tenantId: string
  readonly taskId: string
  readonly fence: number
  readonly nonce: string
}): string {
  return `${of.tenantId}/${of.taskId}/${of.fence}-${of.nonce}/`
}

/** When a folder goes: at its time, or unless its task's result names it then. */
export interface Expiry {
  readonly at: Date
  readonly unless: 'nothing' | 'named'
  readonly tenantId: string
  readonly taskId: string
  /** As `attemptFolder` gives it. */
  readonly folder: string
}

/** The key of an expiry's marker. In the order of keys, markers are in the order of time. */
export function expiryKey({ at, unless, folder }: Pick<Expiry, 'at' | 'unless' | 'folder'>): string {
  return `${EXPIRIES}${at.toISOString()}/${unless}/${folder.slice(0, -1)}`
}

/** As contracts has them; what is no such name must never be the start of something to delete. */
const TENANT = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/
const TASK = /^[A-Za-z][A-Za-z0-9_-]*$/
const ATTEMPT = /^\d+-[0-9a-f]{8}$/

/** @returns null for what is no marker of ours */
export function readExpiryKey(key: string): Expiry | null {
  const [at = '', unless, tenantId = '', taskId = '', attempt = '', ...rest] = key
    .slice(EXPIRIES.length)
    .split('/')
  const isOurs = [TENANT.test(tenantId), TASK.test(taskId), ATTEMPT.test(attempt), rest.length === 0]
  if (!key.startsWith(EXPIRIES) || isOurs.includes(false) || Number.isNaN(Date.parse(at))) return null
  if (unless !== 'nothing' && unless !== 'named') return null
  return { at: new Date(at), unless, tenantId, taskId, folder: `${tenantId}/${taskId}/${attempt}/` }
}
