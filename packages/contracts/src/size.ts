const UNITS: Readonly<Record<string, number>> = { b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }
const SIZE = /^(\d+(?:\.\d+)?)([bkmgt])?i?b?$/i

/**
 * Reads a size of a task: a whole number of bytes, or a string such as `"512m"`, `"1.5Gi"`, `"64KiB"`.
 * Units are 1024-based whatever their spelling.
 *
 * @returns the size in bytes, rounded down to a whole byte
 * @throws RangeError when the text is no size or too large to be counted exactly
 */
export function parseSize(input: string | number): number {
  const bytes = typeof input === 'number' ? input : parseText(input)
  if (!Number.isSafeInteger(bytes) || bytes < 0) {
    throw new RangeError(`${JSON.stringify(input)} is no size: give bytes, or a number with b, k, m, g or t`)
  }
  return bytes
}

function parseText(text: string): number {
  const match = SIZE.exec(text)
  if (!match) return Number.NaN
  return Math.floor(Number(match[1]) * (UNITS[(match[2] ?? 'b').toLowerCase()] ?? Number.NaN))
}

/** Shows bytes to a person: `1536` → `1.5Ki`, `2147483648` → `2Gi`. */
export function formatSize(bytes: number): string {
  const units = ['', 'Ki', 'Mi', 'Gi', 'Ti']
  let value = bytes
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${Number(value.toFixed(value < 10 ? 1 : 0))}${units[unit] ?? ''}`
}
