import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Nothing of the caller's environment, which may hold secrets that every local user of its uid could then read. */
const env = { PATH: '/usr/local/bin:/usr/bin:/bin' }

const run = (program: string, args: readonly string[]) => promisify(execFile)(program, args, { env })

/**
 * Removes a tree whatever a task made of it: folders without rights, paths longer than the system takes. `rm` goes
 * by directory handles, follows no links, and stops at the border of another file system. Nothing there is success.
 */
export async function removeTree(path: string): Promise<void> {
  const remove = () => run('rm', ['-rf', '--one-file-system', '--', path])
  try {
    await remove()
  } catch {
    // Without root, a folder of mode 0 can't be emptied by its own owner.
    await run('chmod', ['-R', 'u+rwX', '--', path]).catch(() => undefined)
    await remove()
  }
}
