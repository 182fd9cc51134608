import type { Report } from './statistics.js'

/**
 * Shows a report to a person.
 *
 * @param floors the contenders that the others are held against, one column of ratios each
 */
export function renderTable(report: Report, floors: readonly string[]): string {
  const head = ['', 'median', 'p95', ...floors.map(name => `÷ ${name}`)]
  const section = (metric: 'firstByteMs' | 'resultMs', title: string) => [
    [title, ...head.slice(1)],
    ...Object.entries(report).map(([name, { metrics, ratios }]) => [
      name,
      milliseconds(metrics[metric].median),
      milliseconds(metrics[metric].p95),
      ...floors.map(floor => times(ratios[floor]?.[metric])),
    ]),
  ]
  const rows = [...section('firstByteMs', 'to the first byte'), ...section('resultMs', 'to the result')]
  return align(rows)
}

function milliseconds(value: number): string {
  return `${value.toFixed(value < 100 ? 1 : 0)} ms`
}

function times(ratio: number | undefined): string {
  return ratio === undefined ? '1' : ratio.toFixed(2)
}

/** Rows as columns: the first to the left, the others to the right. */
export function align(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
  return rows.map(line).join('\n')
}
