import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'

export interface GitOptions {
  /** Where to run it; the current folder by default. */
  readonly cwd?: string
  /** More variables, such as GIT_DIR. */
  readonly env?: Readonly<Record<string, string>>
  /** What the program reads; nothing by default. */
  readonly input?: string | Uint8Array
}

/** Configuration for one git process and its children, in the form that needs no file (GIT_CONFIG_COUNT). */
function configEnvironment(config: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(config)
  const env: Record<string, string> = { GIT_CONFIG_COUNT: String(entries.length) }
  for (const [index, [key, value]] of entries.entries()) {
    env[`GIT_CONFIG_KEY_${index}`] = key
    env[`GIT_CONFIG_VALUE_${index}`] = value
  }
  return env
}

/** An environment in which git behaves alike on every machine: no user's or system's configuration, no prompt. */
export function cleanEnvironment(config: Readonly<Record<string, string>> = {}): Record<string, string> {
  const person = { NAME: 'Test', EMAIL: 'test@example.com', DATE: '1700000000 +0000' }
  return {
    PATH: process.env.PATH ?? '',
    HOME: '/nonexistent',
    LC_ALL: 'C',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_CONFIG_GLOBAL: '/dev/null',
    GIT_TERMINAL_PROMPT: '0',
    ...Object.fromEntries(
      Object.entries(person).flatMap(([key, value]) => [
        [`GIT_AUTHOR_${key}`, value],
        [`GIT_COMMITTER_${key}`, value],
      ]),
    ),
    ...configEnvironment({ 'safe.directory': '*', 'init.defaultBranch': 'main', ...config }),
  }
}

/**
 * Runs the real git program with a clean environment.
 *
 * @returns what it wrote to stdout, without the last newline
 * @throws Error with the command, its status and its stderr when the status is not 0
 *
 * @example const head = await git(['rev-parse', 'HEAD'], { cwd: clone })
 */
export async function git(
  args: readonly string[],
  { cwd, env = {}, input = '' }: GitOptions = {},
): Promise<string> {
  const child = spawn('git', args, { cwd, env: { ...cleanEnvironment(), ...env }, stdio: 'pipe' })
  // A git that ends without reading its input is judged by its status.
  child.stdin.on('error', () => undefined).end(input)
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  if (status !== 0) throw new Error(`git ${args.join(' ')} ended with ${String(status)}: ${stderr.trim()}`)
  return stdout.replace(/\n$/, '')
}
