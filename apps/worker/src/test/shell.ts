import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** git's own configuration is kept out, and the work tree is another user's, as it is in a container. */
const ENV = {
  PATH: process.env.PATH,
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
}

/** Runs a script of a task's in a work tree, up to its first failing command. */
export async function shellIn(repo: string, script: string): Promise<string> {
  const { stdout } = await run('sh', ['-ec', script], { cwd: repo, env: ENV })
  return stdout
}
