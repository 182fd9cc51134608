import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Special, SpecialKind } from './unpack.js'

/** `<kind> <path>\0` for each thing of the repository that was not made on the worker's disk. */
const FILE = 'special'

/** Notes in a slot's folder what is missing in the repository that was read back into it. */
export async function writeSpecials(slotRoot: string, specials: readonly Special[]): Promise<void> {
  const text = specials.map(({ kind, path }) => `${kind} ${path}\0`).join('')
  await writeFile(join(slotRoot, FILE), text, { encoding: 'latin1', mode: 0o600 })
}

/** Path → kind, the paths' bytes held as latin1. */
export function readSpecials(slotRoot: string): Map<string, SpecialKind> {
  const entries = readFileSync(join(slotRoot, FILE), 'latin1').split('\0').slice(0, -1)
  return new Map(
    entries.map(entry => {
      const space = entry.indexOf(' ')
      return [entry.slice(space + 1), entry.slice(0, space) as SpecialKind]
    }),
  )
}
