import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import * as show from './show.js'

/** @typedef {Readonly<Record<string, string | undefined>>} Env */

/**
 * What `agirunner up` says when it is ready; see packages/cli/src/up/up-file.ts.
 * @typedef {{worker: {pid: number, id: string}, board: {url: string, user: string, password: string | null}}} Ready
 */

/** @param {string} root */
const program = root => join(root, 'packages', 'cli', 'bin', 'agirunner.js')

/**
 * Starts `agirunner up` and waits until it is ready. It is in a process group of its own, so that Ctrl-C reaches only
 * the demo, which then stops it in order; and should the demo die, `up` notices and ends by itself.
 * @param {{root: string, env: Env, signal: AbortSignal}} options
 * @returns {Promise<{ready: Ready, stop: () => Promise<void>}>}
 */
export async function startUp({ root, env, signal }) {
  const child = spawn(process.execPath, [program(root), 'up'], {
    env,
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
  })
  const closed = once(child, 'close')
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface({ input: stream }).on('line', show.fromUp)
  }
  const stop = async () => {
    child.kill('SIGTERM')
    await closed
  }
  /** @type {Promise<Ready>} */
  const ready = new Promise((resolve, reject) => {
    child.once('message', message => resolve(/** @type {Ready} */ (message)))
    child.once('exit', code =>
      reject(new Error(`agirunner up ended with ${code}; the lines above say why; see its log`)),
    )
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  try {
    return { ready: await ready, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/**
 * Runs one `agirunner` command; when the demo is told to stop, so is the command.
 * @param {{root: string, env: Env, signal: AbortSignal, args: string[], capture?: boolean}} options `capture`: its
 *   stdout is returned, else it is shown
 * @returns {Promise<{code: number, output: string}>}
 */
export async function run({ root, env, signal, args, capture = false }) {
  const child = spawn(process.execPath, [program(root), ...args], {
    env,
    stdio: ['ignore', 'pipe', capture ? 'ignore' : 'pipe'],
    detached: true,
  })
  const stop = () => void child.kill('SIGTERM')
  signal.addEventListener('abort', stop, { once: true })
  /** @type {Buffer[]} */
  const output = []
  if (capture) child.stdout?.on('data', chunk => output.push(chunk))
  else
    for (const stream of [child.stdout, child.stderr])
      if (stream) createInterface({ input: stream }).on('line', show.fromRun)
  const [code] = await once(child, 'close')
  signal.removeEventListener('abort', stop)
  return { code: code ?? 1, output: Buffer.concat(output).toString() }
}
