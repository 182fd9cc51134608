import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { type Endpoint, isLoopback } from '../../support/address-ranges.js'

/** What the engine gives to containers; the second is used where the first names nothing but the machine itself. */
const RESOLV_CONF = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf']
/** An address of the machine's own that the engine's resolver asks by itself needs no rule. */
const isReached = (address: string) => isIP(address) !== 0 && !isLoopback(address)

/** The nameservers that the engine's resolver asks from within a task's network. */
export async function nameservers(): Promise<string[]> {
  for (const path of RESOLV_CONF) {
    const text = await readFile(path, 'utf8').catch(() => '')
    const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, address]) => address ?? '')
    const reached = found.filter(isReached)
    if (reached.length > 0) return [...new Set(reached)].toSorted()
  }
  return []
}

/** @param address host and port of something of the runtime's own @returns where it listens, as far as can be told */
export async function endpointsOf({ host, port }: { host: string; port: number }): Promise<Endpoint[]> {
  const plain = host.replace(/^\[|\]$/g, '')
  const found = isIP(plain) ? [{ address: plain }] : await lookup(plain, { all: true }).catch(() => [])
  return found.map(({ address }) => ({ address, port }))
}

/** What went through a network's bridge so far, as the task sees it. */
export interface Traffic {
  readonly rxBytes: number
  readonly txBytes: number
}

/** @returns null when there is no such interface */
export async function trafficOf(bridge: string): Promise<Traffic | null> {
  const read = async (name: string) =>
    Number(await readFile(`/sys/class/net/${bridge}/statistics/${name}`, 'utf8'))
  try {
    const [received, sent] = await Promise.all([read('rx_bytes'), read('tx_bytes')])
    return { rxBytes: sent, txBytes: received }
  } catch {
    return null
  }
}
