import picomatch from 'picomatch'

/**
 * Dot files too: a task that leaves them means them. `!` at the beginning is a character like any other, and so is a
 * newline in a name.
 */
const OPTIONS = { dot: true, nonegate: true, flags: 's' } as const

/** Which files below /workspace are wanted, and where it is worth looking for them. */
export class Selection {
  readonly #matches: (path: string) => boolean
  /** Folders, or files, below which everything that can match lies; none within another. '' is /workspace itself. */
  readonly bases: readonly string[]

  /** @param globs relative to /workspace; one that names a folder means all that is in it */
  constructor(globs: readonly string[]) {
    const plain = globs.map(glob => glob.replace(/^(\.\/)+/, '').replace(/\/+$/, ''))
    const all = plain.flatMap(glob => [glob, `${glob}/**`])
    this.#matches = all.length === 0 ? () => false : picomatch(all, OPTIONS)
    const bases = plain.map(glob => picomatch.scan(glob, OPTIONS).base)
    const isOuter = (base: string) => !bases.some(other => other !== base && isBelow(base, other))
    this.bases = [...new Set(bases)].filter(isOuter).toSorted()
  }

  has(path: string): boolean {
    return this.#matches(path)
  }
}

/** Whether a path lies in a folder, or is it. */
export function isBelow(path: string, folder: string): boolean {
  return folder === '' || path === folder || path.startsWith(`${folder}/`)
}
