/** What a check found. */
export interface Finding {
  readonly check: string
  /** `warn`: it works, with less. `bad`: tasks can't run. */
  readonly level: 'ok' | 'warn' | 'bad'
  readonly found: string
  /** What to do about it; null when nothing is. */
  readonly fix: string | null
}

export const ok = (check: string, found: string): Finding => ({ check, level: 'ok', found, fix: null })
export const warn = (check: string, found: string, fix: string): Finding => ({
  check,
  level: 'warn',
  found,
  fix,
})
export const bad = (check: string, found: string, fix: string): Finding => ({
  check,
  level: 'bad',
  found,
  fix,
})

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
