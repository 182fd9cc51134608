import { constants } from 'node:fs'
import { access, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { formatSize } from '@agirunner/contracts'
import type { Call } from '../command.js'
import { bad, type Finding, messageOf, ok, warn } from './finding.js'

const GIB = 1024 ** 3
/** Free space below which tasks are likely to fail, and below which caches will be short. */
const BAD_BYTES = GIB
const WARN_BYTES = 5 * GIB

/** Whether the data folder can be written to and has room. */
export async function checkData({ settings }: Call): Promise<Finding[]> {
  const { dataDir } = settings
  try {
    const folder = await nearestExisting(dataDir)
    await access(folder, constants.W_OK | constants.X_OK)
    const { bavail, bsize } = await statfs(folder)
    return [spaceOf(dataDir, bavail * bsize)]
  } catch (error) {
    const fix = 'set AGIRUNNER_DATA to a folder that you can write to'
    return [bad('data', `${dataDir} can't be written to: ${messageOf(error)}`, fix)]
  }
}

/** A data folder that is not made yet is as good as the folder it will be made in. */
async function nearestExisting(folder: string): Promise<string> {
  try {
    await access(folder)
    return folder
  } catch (error) {
    if (dirname(folder) === folder) throw error
    return nearestExisting(dirname(folder))
  }
}

function spaceOf(dataDir: string, freeBytes: number): Finding {
  const found = `${dataDir}, ${formatSize(freeBytes)} free`
  const fix = 'free some space, or set AGIRUNNER_DATA to a larger disk'
  if (freeBytes < BAD_BYTES) return bad('data', found, fix)
  return freeBytes < WARN_BYTES ? warn('data', found, fix) : ok('data', found)
}
