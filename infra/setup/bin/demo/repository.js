import { existsSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Serves the checkout's own repository over smart HTTP, from a bare clone: the checkout itself is not touched, and a
 * shallow one or one with a detached HEAD is served as well.
 * @param {{root: string, folder: string, kit: any}} options `folder` for the clone; `kit` is the test-kit
 * @returns {Promise<{url: string, close: () => Promise<void>}>}
 */
export async function serveCheckout({ root, folder, kit }) {
  const bare = join(folder, 'agirunner.git')
  if (await hasCommits(root, kit)) await kit.git(['clone', '--quiet', '--bare', root, bare])
  else await commitFiles({ root, bare, kit })
  await nameHead(bare, kit)
  const server = await kit.serveGit({ root: folder })
  return { url: `${server.url}/agirunner.git`, close: server.close }
}

/** @param {string} root @param {any} kit @returns {Promise<boolean>} */
async function hasCommits(root, kit) {
  if (!existsSync(join(root, '.git'))) return false
  return kit.git(['rev-parse', '--verify', '--quiet', 'HEAD'], { cwd: root }).then(
    () => true,
    () => false,
  )
}

/**
 * Somebody unpacked an archive: its files become a repository.
 * @param {{root: string, bare: string, kit: any}} options
 */
async function commitFiles({ root, bare, kit }) {
  const env = { GIT_DIR: bare, GIT_WORK_TREE: root }
  await kit.git(['init', '--quiet', '--bare', bare])
  await kit.git(['add', '--all'], { cwd: root, env })
  await kit.git(['commit', '--quiet', '--message', 'The files of this folder'], { cwd: root, env })
}

/**
 * A clone of a detached HEAD has no default branch.
 * @param {string} bare @param {any} kit
 */
async function nameHead(bare, kit) {
  const isNamed = await kit.git(['symbolic-ref', '--quiet', 'HEAD'], { cwd: bare }).then(
    () => true,
    () => false,
  )
  if (isNamed) return
  const commit = await kit.git(['rev-parse', 'HEAD'], { cwd: bare })
  await kit.git(['update-ref', 'refs/heads/demo', commit], { cwd: bare })
  await kit.git(['symbolic-ref', 'HEAD', 'refs/heads/demo'], { cwd: bare })
}
