import type { LogEntry } from '@agirunner/contracts'
import { isSpecial, PLAIN, plainText, type Style, styleAfter } from './ansi.js'

export type Stream = LogEntry['stream']

export interface LogLine {
  readonly kind: 'line'
  /** Counts all lines of the task from 1. */
  readonly number: number
  readonly stream: Stream
  readonly section: Section
  readonly at: string
  /** What its line starts with, left by the one before of the same stream. */
  readonly style: Style
  raw: string
}

/** The lines of one step of one attempt, which can be folded. */
export interface Section {
  readonly kind: 'section'
  readonly attempt: number
  readonly step: string | null
  folded: boolean
  lines: number
  errors: number
}

export type Row = LogLine | Section
export type Shown = 'all' | Stream

/** An endless line without a newline is cut into lines of so many UTF-16 units. */
const MAX_LINE = 16_384
/** A progress bar that rewrites its line is kept down to its last states. */
const MAX_REWRITES = 8192
/** The page forgets its oldest lines above this: the stored log has them all, and a browser only scrolls so far. */
const MAX_LINES = 500_000

/**
 * A task's log as rows of lines. Entries are pieces of lines, and both streams' are mixed: each stream has its own open line.
 * What is shown (one stream, without folded steps) is kept as a list next to it, so that adding to a long log stays cheap.
 */
export class LogStore {
  /** What is to be drawn, in order. */
  rows: Row[] = []
  /** Positions in `rows` of lines that the search finds. */
  matches: number[] = []
  /** Lines that the page has forgotten. */
  dropped = 0
  /** The last entry that was added, from which a stream that broke goes on. */
  seq = 0

  #lines: LogLine[] = []
  #count = 0
  #open: Partial<Record<Stream, LogLine>> = {}
  #styles: Record<Stream, Style> = { stdout: PLAIN, stderr: PLAIN }
  #section: Section | null = null
  /** Whether sections have heads that fold them. */
  #headed = false
  /** The first of the rows that the search did not look at yet. */
  #unmatched: number | null = null
  #shown: Shown = 'all'
  #query = ''

  get size(): number {
    return this.#lines.length
  }

  /** Whether there are sections to fold. */
  get sectioned(): boolean {
    return this.#headed
  }

  /** @param entries in their order; those that are known already are left out */
  append(entries: readonly LogEntry[]): void {
    for (const entry of entries) {
      if (entry.seq <= this.seq) continue
      this.seq = entry.seq
      this.#add(entry)
    }
    if (this.#lines.length > MAX_LINES) this.#forget()
  }

  show(shown: Shown): void {
    this.#shown = shown
    this.#rebuild()
  }

  fold(section: Section, folded: boolean): void {
    section.folded = folded
    this.#rebuild()
  }

  foldAll(folded: boolean): void {
    let changed = false
    for (const { section } of this.#lines) {
      changed ||= section.folded !== folded
      section.folded = folded
    }
    if (changed) this.#rebuild()
  }

  /** Looks for text, whatever its case, in what is shown. */
  search(query: string): void {
    this.#query = query.toLowerCase()
    this.matches = []
    if (this.#query === '') return
    for (const [index, row] of this.rows.entries()) this.#match(row, index)
  }

  /** Unfolds what hides a line. @returns its position in `rows`; -1 when only the filter hides it */
  reveal(line: LogLine): number {
    if (line.section.folded) this.fold(line.section, false)
    return this.rows.indexOf(line)
  }

  /**
   * The line where a failure is likely to be told: the first among the last ones that looks like an error, else the last one of
   * stderr, else the last one.
   */
  failingLine(): LogLine | null {
    const tail = this.#lines.slice(-TAIL).filter(({ raw }) => raw.trim() !== '')
    return (
      tail.find(line => ERROR.test(plainText(line.raw))) ??
      this.#lines.findLast(({ stream, raw }) => stream === 'stderr' && raw.trim() !== '') ??
      tail.at(-1) ??
      null
    )
  }

  #add({ text, stream, step, at, attempt }: LogEntry): void {
    const section = this.#sectionOf(attempt, step)
    if (this.#open[stream] && this.#open[stream].section !== section) this.#close(stream)
    for (const [index, piece] of text.split('\n').entries()) {
      if (index > 0) this.#end(stream, section, at)
      if (piece !== '') this.#extend(stream, section, at, piece)
    }
  }

  /** A newline: it ends the open line, or is an empty one. */
  #end(stream: Stream, section: Section, at: string): void {
    if (!this.#open[stream]) this.#extend(stream, section, at, '')
    this.#close(stream)
  }

  #close(stream: Stream): void {
    const line = this.#open[stream]
    if (!line) return
    if (line.raw.endsWith('\r')) line.raw = line.raw.slice(0, -1)
    this.#styles[stream] = styleAfter(line.raw, line.style)
    delete this.#open[stream]
  }

  #extend(stream: Stream, section: Section, at: string, piece: string): void {
    for (let from = 0; from === 0 || from < piece.length; from += MAX_LINE) {
      const part = piece.slice(from, from + MAX_LINE)
      const open = this.#open[stream]
      if (open && open.raw.length + part.length > 2 * MAX_LINE) this.#close(stream)
      const line = this.#open[stream] ?? this.#start(stream, section, at)
      line.raw += part
      if (line.raw.length > MAX_REWRITES) line.raw = withoutOldStates(line.raw)
    }
  }

  #start(stream: Stream, section: Section, at: string): LogLine {
    this.#count += 1
    const line: LogLine = {
      kind: 'line',
      number: this.#count,
      stream,
      section,
      at,
      style: this.#styles[stream],
      raw: '',
    }
    this.#open[stream] = line
    this.#lines.push(line)
    section.lines += 1
    if (stream === 'stderr') section.errors += 1
    this.#push(line)
    return line
  }

  #sectionOf(attempt: number, step: string | null): Section {
    const last = this.#section
    if (last?.attempt === attempt && last.step === step) return last
    if (last && last.attempt !== attempt) this.#styles = { stdout: PLAIN, stderr: PLAIN }
    const section: Section = { kind: 'section', attempt, step, folded: false, lines: 0, errors: 0 }
    this.#section = section
    // A task of one script and one attempt has nothing to fold.
    if (!this.#headed && (last || step !== null || attempt > 1)) {
      this.#headed = true
      this.#rebuild()
    }
    if (this.#headed) this.rows.push(section)
    return section
  }

  #push(line: LogLine): void {
    if (line.section.folded || (this.#shown !== 'all' && this.#shown !== line.stream)) return
    this.rows.push(line)
    // Its text is still to come; a match in an open line is found by the next search.
    this.#unmatched ??= this.rows.length - 1
  }

  /** Looks at the lines that came since the last time; to be called before each drawing. */
  settle(): void {
    const from = this.#unmatched
    this.#unmatched = null
    if (from === null || this.#query === '') return
    while ((this.matches.at(-1) ?? -1) >= from) this.matches.pop()
    for (let index = from; index < this.rows.length; index += 1) this.#match(this.rows[index], index)
    // An open line may get longer.
    if (Object.keys(this.#open).length > 0) this.#unmatched = Math.max(0, this.rows.length - 2)
  }

  #match(row: Row | undefined, index: number): void {
    if (row?.kind === 'line' && plainText(row.raw).toLowerCase().includes(this.#query))
      this.matches.push(index)
  }

  #rebuild(): void {
    this.rows = []
    let section: Section | null = null
    for (const line of this.#lines) {
      if (line.section !== section) {
        section = line.section
        if (this.#headed) this.rows.push(section)
      }
      if (!section.folded && (this.#shown === 'all' || this.#shown === line.stream)) this.rows.push(line)
    }
    this.search(this.#query)
  }

  #forget(): void {
    const cut = this.#lines.length - Math.floor(MAX_LINES * 0.9)
    this.#lines = this.#lines.slice(cut)
    this.dropped += cut
    this.#rebuild()
  }
}

const TAIL = 400
const ERROR =
  /\b(?:error|fatal|panic|exception|traceback|segmentation fault|command not found|no such file|cannot|failed|failure|FAIL|killed|out of memory)\b/i

/** Keeps what the last rewritings left, as a terminal would show them. */
function withoutOldStates(raw: string): string {
  if (!raw.includes('\r') || !isSpecial(raw)) return raw
  const states = raw.split('\r')
  return states.length > 8 ? states.slice(-8).join('\r') : raw
}

/** Where the text of a query stands in a line: starts, in UTF-16 units. */
export function occurrences(text: string, query: string): number[] {
  if (query === '') return []
  const [where, what] = [text.toLowerCase(), query.toLowerCase()]
  const found: number[] = []
  for (let at = where.indexOf(what); at !== -1; at = where.indexOf(what, at + what.length)) found.push(at)
  return found
}
