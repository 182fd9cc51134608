import { CliError } from './errors.js'

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3600_000, d: 24 * 3600_000 }

/**
 * A span of time as a person writes it: `90` and `90s`, `30m`, `2h`, `1d`.
 *
 * @returns milliseconds @throws CliError
 */
export function readSpan(text: string, name: string): number {
  const [, digits, unit = 's'] = /^(\d{1,9})([smhd])?$/.exec(text) ?? []
  const span = Number(digits ?? 0) * (UNITS[unit] ?? 0)
  if (span > 0) return span
  const why = 'it is a number with s, m, h or d for seconds, minutes, hours or days'
  throw new CliError(`${name} can't be ${JSON.stringify(text)}; ${why}; give it like 30m`)
}
