import type { IncomingMessage } from 'node:http'
import { isIPv6, type LookupFunction } from 'node:net'
import { canonicalHost } from '@agirunner/contracts/network-host'
import { type PrepareRequestFunctionOpts, RequestError } from 'proxy-chain'
import type { Address } from './lookup.js'

/** Methods with which Node would send a body of unknown length without a frame, so that it could pose as a request. */
const WITHOUT_BODY = new Set(['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'])

/** Ends a refusal that the task can't mend by itself. */
export const OPERATOR = '; an operator can open such addresses with AGIRUNNER_EGRESS_PRIVATE'

/** Why a place is refused that the task does not name, and what to do. */
export function notListed(host: string, port: number): string {
  const name = isIPv6(host) ? `[${host}]` : host
  const entry = port === 80 || port === 443 ? name : `${name}:${port}`
  return `${name}:${port} is not allowed for this task; add "${entry}" to environment.network.hosts`
}

/** A name in a ClientHello is the task's to choose: only what could be one is repeated. */
export function printableName(name: string | null): string {
  return (name !== null && canonicalHost(name)) || '(unreadable TLS name)'
}

/**
 * Where a request is to go, in the one form in which it is checked and connected to.
 *
 * @throws RequestError for what is no place, or is said to be two
 */
export function readTarget({ request, hostname, port, isHttp }: PrepareRequestFunctionOpts): {
  host: string
  port: number
} {
  const host = canonicalHost(hostname)
  if (host === null) throw new RequestError('agirunner: the target is no host\n', 400)
  if (isHttp) checkFraming(request, host, port)
  return { host, port }
}

/** A server goes by the Host header, so it must name what was checked. */
function checkFraming(request: IncomingMessage, host: string, port: number): void {
  const hosts = request.rawHeaders.filter(
    (_value, at, all) => at % 2 === 1 && all[at - 1]?.toLowerCase() === 'host',
  )
  const said = hosts[0] === undefined ? null : readAuthority(hosts[0])
  if (hosts.length !== 1 || said === null || said.host !== host || said.port !== port) {
    throw new RequestError('agirunner: the Host header must name the host of the URL, once\n', 400)
  }
  if (request.headers['transfer-encoding'] !== undefined && WITHOUT_BODY.has(request.method ?? '')) {
    throw new RequestError('agirunner: a body with this method needs a content-length\n', 411)
  }
}

function readAuthority(text: string): { host: string; port: number } | null {
  const match = /^(.*?)(?::(\d{1,5}))?$/.exec(text)
  const host = canonicalHost(match?.[1] ?? '')
  return host === null ? null : { host, port: Number(match?.[2] ?? 80) }
}

/** A lookup that knows the checked addresses and nothing else. */
export function pinned(addresses: readonly Address[]): LookupFunction {
  return (_host, options, callback) => {
    const [first] = addresses
    if (options.all)
      callback(
        null,
        addresses.map(one => ({ ...one })),
      )
    else callback(null, first?.address ?? '', first?.family ?? 4)
  }
}
