/** A place that a task may reach, as `environment.network.hosts` names it. */
export interface AllowedHost {
  /**
   * Lower case, without a trailing dot, an IDN in its ASCII form; an IP address in its shortest form, IPv6 without
   * brackets.
   */
  readonly name: string
  /** Stands for every name below `name`, however deep, and not for `name` itself. */
  readonly wildcard: boolean
  readonly ports: readonly number[]
}

/** The ports of an entry that names none. */
export const DEFAULT_PORTS: readonly number[] = [80, 443]

const SHAPE = /^(\*\.)?([^\s/?#@:[\]%\\*]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?$/
/** Anything else would be cut off by a URL parser, and then be checked without it. */
const WHOLE = /^(\[[^\]]*\]|[^\s/?#@:[\]%\\]+)$/
/** No label is empty or longer than 63, none begins or ends with a hyphen; `_` is used in practice. */
const NAME = /^(?!.{254})([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/

/**
 * Reads `name`, `name:port`, `*.domain`, `*.domain:port`, an IPv4 address or an IPv6 address in brackets, both with or
 * without a port. A name may be written in any case, with a trailing dot or with letters of any script.
 *
 * @returns null when it is none of these
 */
export function parseAllowedHost(text: string): AllowedHost | null {
  const [, star, host, port] = SHAPE.exec(text) ?? []
  if (host === undefined) return null
  const name = canonicalHost(host)
  if (name === null || (port !== undefined && !isPort(Number(port)))) return null
  if (star !== undefined && isAddress(name)) return null
  return { name, wildcard: star !== undefined, ports: port === undefined ? DEFAULT_PORTS : [Number(port)] }
}

/**
 * The one form of a host in which two can be compared: `EXAMPLE.com.` is `example.com`, `[::0:1]` is `::1`.
 *
 * @param host a name or an IPv4 address, or an IPv6 address in brackets
 * @returns null when it is no host
 */
export function canonicalHost(host: string): string | null {
  if (!WHOLE.test(host)) return null
  // A URL parser maps letters of all scripts, and addresses in odd forms, as every client does.
  const parsed = URL.canParse(`http://${host}/`) ? new URL(`http://${host}/`).hostname : ''
  if (parsed.startsWith('[')) return parsed.slice(1, -1)
  const name = parsed.endsWith('.') ? parsed.slice(0, -1) : parsed
  return NAME.test(name) ? name : null
}

function isAddress(name: string): boolean {
  return name.includes(':') || /^\d+\.\d+\.\d+\.\d+$/.test(name)
}

function isPort(port: number): boolean {
  return port >= 1 && port <= 65_535
}
