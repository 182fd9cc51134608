import {
  type Assignment,
  type AttributeFile,
  type AttributeValue,
  parseAttributeFile,
} from './attribute-file.js'
import { type Effort, Glob } from './glob.js'

/** What git does to a file's bytes between the work tree and its objects. */
export interface Conversion {
  /** Whether it is text; `auto`: when it looks like it. */
  readonly text: 'no' | 'yes' | 'auto'
  /** How its lines end in the work tree, where that is said; else as everywhere on Linux. */
  readonly eol: 'lf' | 'crlf' | null
  /** Whether `$Id$` is expanded. */
  readonly ident: boolean
  /** How its characters are encoded in the work tree; null for as in git's objects. */
  readonly encoding: string | null
  /** The name of a program that git would be configured with. It is never run. */
  readonly filter: string | null
}

type Values = ReadonlyMap<string, AttributeValue>
type Macros = ReadonlyMap<string, readonly Assignment[]>

/** git itself reads up to 100 MB; no honest file comes near either. */
export const MAX_ATTRIBUTES_BYTES = 4 * 2 ** 20
export const ATTRIBUTES_FILE = '.gitattributes'

const AS_IT_LIES: Conversion = { text: 'no', eol: null, ident: false, encoding: null, filter: null }
const CONVERTING = ['text', 'crlf', 'eol', 'ident', 'working-tree-encoding', 'filter']
const BUILT_IN: Macros = new Map([['binary', [{ name: 'text', value: false }]]])
const WILDCARD = /[*?[\\]/

interface Rule {
  /** Its place in the file; the last of the rules that match wins. */
  readonly order: number
  readonly assignments: readonly Assignment[]
}

interface PatternRule extends Rule {
  readonly matches: (path: string, name: string, effort: Effort) => boolean
}

/**
 * The attributes of one folder of a tree: those of its own file and, behind them, of the folders above. Paths and names
 * are bytes held as latin1 strings.
 *
 * @example
 * const root = Attributes.root(file, null, 'tree', new Effort(1e9))
 * root.below('src/', fileOfSrc).conversionOf('src/a.txt').eol // 'crlf'
 */
export class Attributes {
  /** The folder's own rules first, the root's last; folders without any are left out. */
  readonly #layers: readonly Layer[]
  readonly #shared: Shared

  private constructor(layers: readonly Layer[], shared: Shared) {
    this.#layers = layers
    this.#shared = shared
  }

  /**
   * @param file what the root's attributes file holds
   * @param info what `.git/info/attributes` holds, which wins over every other
   */
  static root(
    file: Buffer | null,
    info: Buffer | null,
    from: 'work tree' | 'tree',
    effort: Effort,
  ): Attributes {
    const [own, above] = [file, info].map(data => parseAttributeFile(data ?? Buffer.alloc(0), from))
    const macros: Macros = new Map([...BUILT_IN, ...(own?.macros ?? []), ...(above?.macros ?? [])])
    const shared = { macros, telling: namesThatTell(macros), from, effort }
    const empty = { lines: [], macros }
    const first = new Rules(above ?? empty, shared.telling)
    const rules = new Rules(own ?? empty, shared.telling)
    return new Attributes([{ prefix: '', rules }], { ...shared, first })
  }

  /** The attributes of a folder below, whose prefix ends in a slash. Only the root's file may define macros. */
  below(prefix: string, file: Buffer | null): Attributes {
    if (file === null) return this
    const { telling, from } = this.#shared
    const rules = new Rules(parseAttributeFile(file, from), telling)
    return rules.isEmpty ? this : new Attributes([{ prefix, rules }, ...this.#layers], this.#shared)
  }

  /**
   * @param path of a file in this folder or below, from the root of the tree
   * @throws EffortError when patterns cost too much
   */
  conversionOf(path: string): Conversion {
    const values = new Map<string, AttributeValue>()
    this.#collect({ prefix: '', rules: this.#shared.first }, path, values)
    for (const layer of this.#layers) this.#collect(layer, path, values)
    return values.size === 0 ? AS_IT_LIES : toConversion(values)
  }

  /** What was said before stays: files and lines come in the order of their weight. */
  #collect({ prefix, rules }: Layer, path: string, values: Map<string, AttributeValue>): void {
    if (rules.isEmpty) return
    const { macros, effort } = this.#shared
    for (const { assignments } of rules.of(path.slice(prefix.length), effort)) {
      const pending = [...assignments]
      for (let next = pending.pop(); next; next = pending.pop()) {
        effort.spend(50)
        if (values.has(next.name)) continue
        values.set(next.name, next.value)
        if (next.value === true) pending.push(...(macros.get(next.name) ?? []))
      }
    }
  }
}

interface Layer {
  /** Of the folder: '' or a path that ends in a slash. */
  readonly prefix: string
  readonly rules: Rules
}

interface Shared {
  readonly macros: Macros
  readonly telling: ReadonlySet<string>
  readonly from: 'work tree' | 'tree'
  readonly effort: Effort
  /** The rules that win over those of every folder. */
  readonly first: Rules
}

/** The attributes that convert something, and the macros that stand for one of them. */
function namesThatTell(macros: Macros): ReadonlySet<string> {
  const users = new Map<string, string[]>()
  for (const [macro, assignments] of macros) {
    for (const { name } of assignments) push(users, name, macro)
  }
  const telling = new Set<string>()
  const pending = [...CONVERTING]
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (telling.has(name)) continue
    telling.add(name)
    for (const user of users.get(name) ?? []) pending.push(user)
  }
  return telling
}

/** The rules of one file; those without wildcards are looked up, so that a list of thousands of paths costs nothing. */
class Rules {
  readonly #named = new Map<string, Rule[]>()
  readonly #patterns: PatternRule[] = []

  constructor({ lines }: AttributeFile, telling: ReadonlySet<string>) {
    for (const [order, line] of lines.entries()) {
      const assignments = line.assignments.filter(({ name }) => telling.has(name))
      if (assignments.length > 0) this.#add(line.pattern, { order, assignments })
    }
  }

  get isEmpty(): boolean {
    return this.#named.size === 0 && this.#patterns.length === 0
  }

  /** @returns those that match, the last of the file first */
  of(path: string, effort: Effort): Rule[] {
    const name = path.slice(path.lastIndexOf('/') + 1)
    const lists = [this.#named.get(name) ?? [], this.#named.get(`/${path}`) ?? []]
    effort.spend(lists.flat().length * 50 + this.#patterns.length * 20)
    const found = this.#patterns.filter(rule => rule.matches(path, name, effort))
    return [found, ...lists].flat().toSorted((a, b) => b.order - a.order)
  }

  /** As in an ignore file, but a pattern never speaks for what is in a folder, and none can be negated. */
  #add(pattern: string, rule: Rule): void {
    if (pattern === '' || pattern.startsWith('!') || pattern.endsWith('/')) return
    const isPath = pattern.includes('/')
    const text = isPath ? pattern.replace(/^\//, '') : pattern
    const wild = text.search(WILDCARD)
    if (wild < 0) push(this.#named, isPath ? `/${text}` : text, rule)
    else if (!isPath && wild === 0 && text.startsWith('*') && text.slice(1).search(WILDCARD) < 0) {
      const end = text.slice(1)
      this.#patterns.push({ ...rule, matches: (_path, name) => name.endsWith(end) })
    } else this.#patterns.push({ ...rule, matches: globMatcher(isPath, text, wild) })
  }
}

function push<T>(lists: Map<string, T[]>, key: string, value: T): void {
  const list = lists.get(key)
  if (list) list.push(value)
  else lists.set(key, [value])
}

/** What a pattern begins with before its first wildcard is compared by itself, in git as here. */
function globMatcher(isPath: boolean, text: string, wild: number): PatternRule['matches'] {
  const beginning = text.slice(0, wild)
  let glob: Glob | null = null
  return (path, name, effort) => {
    const whole = isPath ? path : name
    if (!whole.startsWith(beginning)) return false
    if (!glob) {
      effort.spend(text.length * 100)
      glob = new Glob(text.slice(wild))
    }
    return glob.matches(whole.slice(wild), effort)
  }
}

function toConversion(values: Values): Conversion {
  const text = toText(values.get('text')) ?? toText(values.get('crlf')) ?? { text: null, eol: null }
  const given = values.get('eol')
  const eol = given === 'lf' || given === 'crlf' ? given : null
  const encoding = values.get('working-tree-encoding') ?? false
  const filter = values.get('filter')
  return {
    ...(text.text === 'no' ? { text: 'no', eol: null } : toLines(text.text, eol ?? text.eol)),
    ident: values.get('ident') === true,
    // Without a value git would refuse the file.
    encoding: encoding === true ? 'true' : encoding || null,
    filter: typeof filter === 'string' ? filter : null,
  }
}

/** To say how lines end makes a file text. */
function toLines(text: 'yes' | 'auto' | null, eol: Conversion['eol']): Pick<Conversion, 'text' | 'eol'> {
  return { text: text ?? (eol === null ? 'no' : 'yes'), eol }
}

/** The values of `text`, and of `crlf`, which is its old name; null for one that says nothing. */
function toText(value: AttributeValue | undefined): Pick<Conversion, 'text' | 'eol'> | null {
  if (value === true) return { text: 'yes', eol: null }
  if (value === false) return { text: 'no', eol: null }
  if (value === 'input') return { text: 'yes', eol: 'lf' }
  return value === 'auto' ? { text: 'auto', eol: null } : null
}
