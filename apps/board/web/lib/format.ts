const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const
const NOTHING = '–'

/** @param value in bytes, such as 1536 → `1.5 KiB`; null → a dash */
export function bytes(value: number | null): string {
  if (value === null) return NOTHING
  let rest = value
  let unit = 0
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024
    unit += 1
  }
  return `${unit === 0 || rest >= 100 ? Math.round(rest) : rest.toFixed(1).replace(/\.0$/, '')} ${UNITS[unit]}`
}

/** @param ms such as 1500 → `1.5 s`, 90000 → `1m 30s`; null → a dash */
export function duration(ms: number | null): string {
  if (ms === null || !Number.isFinite(ms)) return NOTHING
  if (ms < 1000) return `${Math.round(Math.max(0, ms))} ms`
  if (ms < 59_950) return `${(ms / 1000).toFixed(1).replace(/\.0$/, '')} s`
  const seconds = Math.round(ms / 1000)
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ]
  if (days > 0) return `${days}d ${hours}h`
  return hours > 0 ? two(hours, 'h', minutes, 'm') : two(minutes, 'm', seconds % 60, 's')
}

const two = (value: number, unit: string, rest: number, smaller: string): string =>
  rest === 0 ? `${value}${unit}` : `${value}${unit} ${rest}${smaller}`

/** How long ago, to the second: `now`, `12s`, `3m`, `5h`, `2d`. */
export function age(at: string | null, now: number): string {
  if (at === null) return NOTHING
  const seconds = Math.floor((now - Date.parse(at)) / 1000)
  if (!Number.isFinite(seconds)) return NOTHING
  if (seconds < 1) return 'now'
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`
}

/** A share of 1, such as 0.256 → `26%`; of nothing it is a dash. */
export function percent(part: number, whole: number): string {
  return whole > 0 ? `${Math.round((part / whole) * 100)}%` : NOTHING
}

/** @param value in cores */
export function cores(value: number | null): string {
  return value === null ? NOTHING : value.toFixed(value < 10 ? 2 : 1).replace(/\.?0+$/, '')
}

export function count(value: number | null): string {
  return value === null ? NOTHING : value.toLocaleString('en')
}

/** Local time to the millisecond for a log, such as `14:03:22.120`. */
export function clock(at: string): string {
  const time = new Date(at)
  if (Number.isNaN(time.getTime())) return NOTHING
  const two = (value: number) => String(value).padStart(2, '0')
  const ms = String(time.getMilliseconds()).padStart(3, '0')
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${ms}`
}

/** `timed_out` → `timed out` */
export const words = (name: string): string => name.replaceAll('_', ' ')

/** `docker.io/library/debian@sha256:abcdef…` → the first 12 digits of its digest; null where it has none */
export function shortDigest(digest: string | null): string | null {
  const hex = digest?.match(/sha256:([0-9a-f]{12})/)?.[1]
  return hex ?? digest?.slice(0, 12) ?? null
}
