import { Cache } from '@agirunner/cache'
import { formatSize } from '@agirunner/contracts'
import type { Call } from '../command.js'
import { cacheBytesOf } from '../settings.js'
import { bad, type Finding, messageOf, ok } from './finding.js'

/** What is kept of repositories on this machine. */
export async function checkCache({ settings }: Call): Promise<Finding[]> {
  try {
    const items = await new Cache(settings.dataDir).list()
    const bytes = items.reduce((sum, item) => sum + item.bytes, 0)
    const count = (kind: string, plural: string) => {
      const { length } = items.filter(item => item.kind === kind)
      return `${length} ${length === 1 ? kind : plural}`
    }
    const held = `${count('repository', 'repositories')} and ${count('snapshot', 'snapshots')}`
    return [ok('cache', `${held}, ${formatSize(bytes)} of ${formatSize(cacheBytesOf(settings))}`)]
  } catch (error) {
    return [
      bad('cache', `it can't be read: ${messageOf(error)}`, 'run this as the user that the worker runs as'),
    ]
  }
}
