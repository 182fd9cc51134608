import { isIP, isIPv4 } from 'node:net'

/** A part of the address space, and one port of it or all. */
export interface EgressRange {
  /** The network's address, without brackets. */
  readonly address: string
  readonly bits: number
  readonly port: number | null
}

const RANGE =
  /^(?:\[([^\]]+)\]|([^\s/:[\]]+)|([^\s/[\]]*:[^\s/[\]]*:[^\s/[\]]*))(?:\/(\d{1,3}))?(?::(\d{1,5}))?$/

/**
 * Reads what the operator opens: `10.1.2.0/24`, `10.1.2.3`, `10.1.2.3:8080`, `fd00:1::/32`, `[fd00::1]:443`, separated
 * by commas or blanks.
 *
 * @returns what could be read, and a line for each word that could not
 */
export function parseRanges(text: string): { ranges: EgressRange[]; problems: string[] } {
  const words = text.split(/[\s,]+/).filter(word => word !== '')
  const read = words.map(word => ({ word, range: parseRange(word) }))
  return {
    ranges: read.flatMap(({ range }) => range ?? []),
    problems: read
      .filter(({ range }) => range === null)
      .map(
        ({ word }) => `"${word}" is neither an address range (10.1.0.0/16) nor address:port (10.1.2.3:8080)`,
      ),
  }
}

function parseRange(word: string): EgressRange | null {
  const match = RANGE.exec(word)
  const address = match?.[1] ?? match?.[2] ?? match?.[3] ?? ''
  const family = isIP(address)
  if (!match || family === 0 || (match[1] !== undefined && family !== 6)) return null
  const most = family === 4 ? 32 : 128
  const bits = match[4] === undefined ? most : Number(match[4])
  const port = match[5] === undefined ? null : Number(match[5])
  if (bits > most || (port !== null && (port < 1 || port > 65_535))) return null
  return { address, bits, port }
}

/** Where something of the runtime's own listens, which no task may reach whatever the operator opens. */
export interface Endpoint {
  readonly address: string
  readonly port: number
}

export function isLoopback(address: string): boolean {
  return isIPv4(address) ? /^(127|0)\./.test(address) : address === '::1' || address === '::'
}
