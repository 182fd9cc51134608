import type { Metric } from './contender.js'
import type { Report } from './statistics.js'

const TITLES: readonly (readonly [Metric, string])[] = [
  ['firstByteMs', 'to the first byte'],
  ['resultMs', 'to the result'],
  ['startMs', 'create + start'],
  ['endMs', 'exit to result'],
]

/**
 * Shows a report to a person, one table for each thing that was measured.
 *
 * @param floors the contenders that the others are held against, one column of ratios each
 */
export function renderTable(report: Report, floors: readonly string[]): string {
  return TITLES.flatMap(([metric, title]) => {
    const known = Object.entries(report).filter(([, { metrics }]) => !Number.isNaN(metrics[metric].median))
    const against = floors.filter(floor => known.some(([name]) => name === floor))
    const rows = known.map(([name, { metrics, ratios }]) => [
      name,
      milliseconds(metrics[metric].median),
      milliseconds(metrics[metric].p95),
      milliseconds(metrics[metric].p99),
      ...against.map(floor => (floor === name ? '1' : times(ratios[floor]?.[metric]))),
    ])
    const head = [title, 'median', 'p95', 'p99', ...against.map(name => `÷ ${name}`)]
    return rows.length > 0 ? [align([head, ...rows])] : []
  }).join('\n\n')
}

export function milliseconds(value: number): string {
  return Number.isNaN(value) ? '–' : `${value.toFixed(value < 100 ? 1 : 0)} ms`
}

export function times(ratio: number | undefined): string {
  return ratio === undefined || Number.isNaN(ratio) ? '–' : ratio.toFixed(2)
}

/** Rows as a table of Markdown that can be read as it is, the first row its head, the first column to the left. */
export function align(rows: readonly (readonly string[])[]): string {
  const [head = [], ...others] = rows
  const widths = head.map((_, column) => Math.max(3, ...rows.map(row => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) => {
    const cells = row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
    )
    return `| ${cells.join(' | ')} |`
  }
  const rule = widths.map((width, column) => (column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [line(head), line(rule), ...others.map(line)].join('\n')
}
