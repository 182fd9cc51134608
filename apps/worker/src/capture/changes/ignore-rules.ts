import ignore from 'ignore'

/**
 * git's ignore rules of a work tree, filled folder by folder from the top. Rules of a folder are turned into rules of the
 * root, so that one list in git's order of precedence answers for every path.
 */
export class IgnoreRules {
  readonly #rules = ignore({ ignorecase: false, allowRelativePaths: true })

  /**
   * @param folder '' or a path that ends in a slash; its parents must have been added
   * @param text what its ignore file holds
   */
  add(folder: string, text: string): void {
    const rules = text.split('\n').flatMap(line => rooted(folder, line))
    if (rules.length > 0) this.#rules.add(rules)
  }

  /** @param path a folder's ends in a slash */
  ignores(path: string): boolean {
    return this.#rules.ignores(path)
  }
}

/** A line of a folder's ignore file as one of the root's. */
function rooted(folder: string, line: string): string[] {
  const text = line.replace(/\r$/, '').replace(/(?<!\\)[ \t]+$/, '')
  if (text === '' || text.startsWith('#')) return []
  if (folder === '') return [text]
  const negated = text.startsWith('!')
  const pattern = negated ? text.slice(1) : text.replace(/^\\(?=[!#])/, '')
  if (pattern === '' || pattern === '/') return []
  // A slash anywhere but at the end binds a pattern to its folder.
  const bound = pattern.slice(0, -1).includes('/')
  const below = bound ? pattern.replace(/^\//, '') : `**/${pattern}`
  return [`${negated ? '!' : ''}/${escapeGlob(folder)}${below}`]
}

function escapeGlob(folder: string): string {
  return folder.replace(/[\\*?[\]]/g, String.raw`\$&`)
}
