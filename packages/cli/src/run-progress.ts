import { formatSize, type TaskEvent } from '@agirunner/contracts'

/** Of a bar, in characters. */
const WIDTH = 24

/** A line that shows how far a pull or a clone is; null for what has no number that grows. */
export function barOf({ phase, data }: Pick<TaskEvent, 'phase' | 'data'>): string | null {
  if (phase === 'image') {
    const [done, total] = [numberOf(data.currentBytes), numberOf(data.totalBytes)]
    if (done === null || total === null) return null
    return `pull      ${bar(done, total)} ${formatSize(done)} of ${formatSize(total)}`
  }
  if (phase !== 'workspace') return null
  const bytes = numberOf(data.bytes)
  if (bytes === null) return null
  if (data.stage !== 'fetch') {
    const files = numberOf(data.files)
    return `${nameOf(data.stage)} ${files === null ? '' : `${files} files, `}${formatSize(bytes)}`
  }
  const [done, total] = [numberOf(data.receivedObjects) ?? 0, numberOf(data.totalObjects) ?? 0]
  const objects = total > 0 ? `${bar(done, total)} ${done} of ${total} objects, ` : ''
  return `clone     ${objects}${formatSize(bytes)}`
}

function nameOf(stage: unknown): string {
  return (typeof stage === 'string' ? stage : 'workspace').slice(0, 9).padEnd(9)
}

/** `[############------------]  50%`; what grows while it is counted may be more than its total for a moment. */
function bar(done: number, total: number): string {
  const share = total > 0 ? Math.min(1, done / total) : 0
  const filled = Math.round(share * WIDTH)
  const percent = `${Math.floor(share * 100)}%`
  return `[${'#'.repeat(filled)}${'-'.repeat(WIDTH - filled)}] ${percent.padStart(4)}`
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : null
}
