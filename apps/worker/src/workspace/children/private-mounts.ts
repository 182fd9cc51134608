import { mkdir, mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { runProgram } from '../../support/program.js'
import { removeTree } from '../remove-tree.js'

/**
 * Whether this process may mount an overlay in a mount namespace of its own, which reading the changes of an overlay
 * needs.
 *
 * @returns null when it can, else why not
 */
export async function whyNoPrivateMounts(dataDir: string): Promise<string | null> {
  const folder = await mkdtemp(join(dataDir, 'probe-'))
  try {
    const [upper, lower, view] = ['upper', 'lower', 'view'].map(name => join(folder, name))
    for (const path of [upper, lower, view]) await mkdir(path ?? '')
    const mount = ['mount', '-t', 'overlay', '-o', `ro,lowerdir=${upper}:${lower}`, 'overlay', view ?? '']
    await runProgram('unshare', ['--mount', '--propagation', 'slave', ...mount])
    return null
  } catch (error) {
    return (error as Error).message.trim().split('\n').at(-1) ?? 'it failed'
  } finally {
    await removeTree(folder)
  }
}
