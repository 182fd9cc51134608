import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** @returns whether the program is there and says its version */
export async function hasProgram(name: string): Promise<boolean> {
  return await promisify(execFile)(name, ['--version']).then(
    () => true,
    () => false,
  )
}
