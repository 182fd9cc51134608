/** The largest task that is accepted, as JSON in bytes. */
export const MAX_TASK_BYTES = 1024 * 1024
const MAX_DEPTH = 64
const DANGEROUS = new Set(['__proto__', 'constructor', 'prototype'])

/** A task that can't be accepted as it is written. `problems` has one line for each thing that is wrong. */
export class SpecError extends Error {
  readonly code = 'spec.invalid'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(
      problems.length === 1
        ? String(problems[0])
        : `${problems.length} problems:\n  - ${problems.join('\n  - ')}`,
    )
    this.name = 'SpecError'
    this.problems = problems
  }
}

/**
 * What must hold before a schema looks at the value: JSON only, no key that reaches a prototype, bounded depth and size.
 * It walks with a list of its own, so a deep value can't overflow the stack.
 */
export function checkShape(root: unknown): string[] {
  if (typeof root !== 'object' || root === null || Array.isArray(root))
    return ['a task must be a JSON object']
  const problems: string[] = []
  const open: { value: object; path: string; depth: number }[] = [{ value: root, path: '', depth: 0 }]
  for (let next = open.pop(); next; next = open.pop()) {
    if (next.depth > MAX_DEPTH)
      return [...problems, `${next.path.slice(0, 80)}…: nested deeper than ${MAX_DEPTH} levels`]
    for (const key of Object.getOwnPropertyNames(next.value)) {
      if (Array.isArray(next.value) && key === 'length') continue
      const path = next.path ? `${next.path}.${key}` : key
      if (DANGEROUS.has(key)) problems.push(`${path}: the key "${key}" is not allowed`)
      const value: unknown = Object.getOwnPropertyDescriptor(next.value, key)?.value
      if (typeof value === 'object' && value !== null) open.push({ value, path, depth: next.depth + 1 })
    }
  }
  if (problems.length === 0 && Buffer.byteLength(JSON.stringify(root)) > MAX_TASK_BYTES) {
    problems.push('the task is larger than 1 MiB')
  }
  return problems
}

/** The known word that a mistyped one most likely stands for, or null when none is close. */
export function nearest(word: string, known: readonly string[]): string | null {
  const limit = Math.max(1, Math.floor(word.length / 3))
  let best: string | null = null
  let bestDistance = limit + 1
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase(), bestDistance)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

function editDistance(a: string, b: string, stopAt: number): number {
  if (Math.abs(a.length - b.length) >= stopAt) return stopAt
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const substitute = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitute))
    }
    row = next
  }
  return row[b.length] ?? stopAt
}
