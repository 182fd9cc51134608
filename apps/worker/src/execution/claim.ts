import { closeSync, constants, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { SavedState } from '../attempt-state.js'
import type { SavedPlan } from '../workspace/saved-plan.js'
import type { SavedNetwork } from './network/networks.js'

/**
 * What a worker must know to go on with a container that another one started. It lies in the slot, is there before the
 * container starts, and goes with the slot. No secret is in it.
 */
export interface Claim {
  readonly version: 1
  /** Of the worker that made the container; control groups bear its name. */
  readonly worker: string
  readonly taskId: string
  readonly attempt: number
  readonly fence: number
  /** RFC 3339; when the attempt began. */
  readonly startedAt: string
  readonly container: {
    readonly id: string
    readonly name: string
    readonly image: string
    readonly digest: string | null
  }
  readonly plan: SavedPlan
  readonly parked: boolean
  /** Null where the container has no network. */
  readonly network: SavedNetwork | null
  readonly state: SavedState
}

/** The claim, and then a line for each state that the attempt has come to since. */
const FILE = 'claim.json'

/** Without leaving the thread: it is on every task's way, and takes some ten microseconds. */
export function writeClaim(slotRoot: string, claim: Claim): void {
  const path = join(slotRoot, FILE)
  writeFileSync(`${path}.new`, line(claim), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

/**
 * Notes where the attempt is by now; nothing where its claim was dropped. It is added and replaces nothing: a file that takes
 * another's name has ext4 write it to the disk first, which took a millisecond.
 */
export function noteState(slotRoot: string, state: SavedState): void {
  let file: number
  try {
    file = openSync(join(slotRoot, FILE), constants.O_WRONLY | constants.O_APPEND)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  try {
    writeSync(file, line(state))
  } finally {
    closeSync(file)
  }
}

function line(value: Claim | SavedState): string {
  return `${JSON.stringify(value)}\n`
}

/** @returns null where there is none, or none that this version understands */
export function readClaim(slotRoot: string): Claim | null {
  try {
    const [first = '', ...others] = readFileSync(join(slotRoot, FILE), 'utf8').split('\n')
    const claim = JSON.parse(first) as Claim
    // Behind the last newline is nothing, or what a worker was writing as it died.
    const last = others.at(-2)
    if (claim.version !== 1) return null
    return last === undefined ? claim : { ...claim, state: JSON.parse(last) as SavedState }
  } catch {
    return null
  }
}

/** From now on nobody can go on with the container: it is the reaper's when its worker is dead. */
export async function dropClaim(slotRoot: string): Promise<void> {
  await rm(join(slotRoot, FILE), { force: true })
}
