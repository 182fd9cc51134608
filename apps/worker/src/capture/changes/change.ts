import type { Mode } from '../../workspace/git/tree.js'

/** What a path is in a tree. */
export interface Entry {
  readonly mode: Mode
  readonly oid: string
}

/** A path that is not as in the base commit. Its bytes are held as a latin1 string; null means that it isn't there. */
export interface Change {
  readonly path: string
  readonly before: Entry | null
  readonly after: Entry | null
}

/** The bytes of a name for a person: UTF-8, with U+FFFD where they are not. */
export function shown(path: string): string {
  return Buffer.from(path, 'latin1').toString('utf8')
}
