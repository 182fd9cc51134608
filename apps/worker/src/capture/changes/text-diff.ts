import { diffArrays } from 'diff'

/** Hunks as they stand in a patch, and how many lines they add and remove. */
export interface TextDiff {
  readonly text: string
  readonly insertions: number
  readonly deletions: number
}

const CONTEXT = 3
/** Past these a diff is not worth its time: the whole middle is replaced. */
const EFFORT = { maxEditLength: 5000, timeout: 1000 }
const NO_NEWLINE = '\\ No newline at end of file\n'

/** One line of a hunk; -1 is removed, 1 is added. */
interface Line {
  readonly sign: -1 | 0 | 1
  readonly text: string
}

/** @param before, after bytes as latin1 strings, so that every byte comes through */
export function diffText(before: string, after: string): TextDiff {
  const lines = compare(splitLines(before), splitLines(after))
  return {
    text: renderHunks(lines),
    insertions: lines.filter(line => line.sign === 1).length,
    deletions: lines.filter(line => line.sign === -1).length,
  }
}

/** Lines with their ends; the last may have none. */
function splitLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? []
}

function compare(before: string[], after: string[]): Line[] {
  let head = 0
  while (head < before.length && head < after.length && before[head] === after[head]) head += 1
  let tail = 0
  const shortest = Math.min(before.length, after.length) - head
  while (tail < shortest && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1
  const middle = compareMiddle(
    before.slice(head, before.length - tail),
    after.slice(head, after.length - tail),
  )
  return [...sign(before.slice(0, head), 0), ...middle, ...sign(before.slice(before.length - tail), 0)]
}

function compareMiddle(before: string[], after: string[]): Line[] {
  const parts = before.length > 0 && after.length > 0 ? diffArrays(before, after, EFFORT) : undefined
  if (!parts) return [...sign(before, -1), ...sign(after, 1)]
  return removalsFirst(parts.flatMap(part => sign(part.value, part.added ? 1 : part.removed ? -1 : 0)))
}

const sign = (lines: readonly string[], value: Line['sign']): Line[] =>
  lines.map(text => ({ sign: value, text }))

/**
 * Within a run of changes everything removed comes before everything added: otherwise a last line without newline could
 * stand in the middle of a hunk, where it means something else.
 */
function removalsFirst(lines: readonly Line[]): Line[] {
  const result: Line[] = []
  let added: Line[] = []
  for (const line of lines) {
    if (line.sign === 1) added.push(line)
    else if (line.sign === -1) result.push(line)
    else {
      result.push(...added, line)
      added = []
    }
  }
  return [...result, ...added]
}

function renderHunks(lines: readonly Line[]): string {
  const parts: string[] = []
  let [oldLine, newLine] = [1, 1]
  let at = 0
  for (const [start, end] of ranges(lines)) {
    for (; at < start; at += 1) {
      oldLine += 1
      newLine += 1
    }
    const hunk = lines.slice(start, end)
    const olds = hunk.filter(line => line.sign <= 0).length
    const news = hunk.filter(line => line.sign >= 0).length
    parts.push(`@@ -${range(oldLine, olds)} +${range(newLine, news)} @@\n`)
    for (const line of hunk) parts.push(renderLine(line))
    oldLine += olds
    newLine += news
    at = end
  }
  return parts.join('')
}

function renderLine({ sign: value, text }: Line): string {
  const mark = value === 0 ? ' ' : value === 1 ? '+' : '-'
  return text.endsWith('\n') ? mark + text : `${mark}${text}\n${NO_NEWLINE}`
}

/** A side without lines is named by the line before it. */
function range(start: number, count: number): string {
  return count === 1 ? `${start}` : `${count === 0 ? start - 1 : start},${count}`
}

/** Where hunks begin and end among the lines: each change with its context, joined where these touch. */
function ranges(lines: readonly Line[]): [number, number][] {
  const found: [number, number][] = []
  for (const [index, line] of lines.entries()) {
    if (line.sign === 0) continue
    const [start, end] = [Math.max(0, index - CONTEXT), Math.min(lines.length, index + CONTEXT + 1)]
    const last = found.at(-1)
    if (last && start <= last[1]) last[1] = end
    else found.push([start, end])
  }
  return found
}
