import { type ExecFileOptions, execFile } from 'node:child_process'
import { promisify } from 'node:util'

/**
 * All that the worker's children get of its environment. The worker holds the operator's secrets there, and whatever a
 * child inherits can be read from `/proc` and ends up in its crash reports.
 */
export const CHILD_ENV = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C',
}

const run = promisify(execFile)

/**
 * Runs a program of the system to its end, without a shell and with CHILD_ENV alone.
 *
 * @returns the bytes that it printed; `maxBuffer` (1 MiB by default) bounds each of the two
 * @throws Error with `code` and `stderr` when it can't be started or its status isn't 0; AbortError
 */
export function runProgram(
  program: string,
  args: readonly string[],
  options: Omit<ExecFileOptions, 'env' | 'encoding' | 'shell'> = {},
): Promise<{ stdout: Buffer; stderr: Buffer }> {
  return run(program, args, { ...options, env: CHILD_ENV, encoding: 'buffer' })
}
