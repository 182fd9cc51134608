import { randomInt } from 'node:crypto'
import { networkInterfaces } from 'node:os'

/**
 * Out of 198.18.0.0/15, which RFC 2544 sets aside for benchmarks: no site uses it for its own machines, so a task's
 * network hides none of them.
 */
const BASE = [198, 19] as const
/** Of a /29: the bridge, the task, and room for engines that keep an address for themselves. */
const SIZE = 8
const COUNT = 65_536 / SIZE

export interface Subnet {
  readonly subnet: string
  readonly gateway: string
}

/** Subnets that nothing on this machine lies in, each once, from a random one on: workers rarely try the same. */
export function* freeSubnets(): Generator<Subnet> {
  const taken = Object.values(networkInterfaces()).flatMap(list => list?.map(one => one.address) ?? [])
  const start = randomInt(COUNT)
  for (let step = 0; step < COUNT; step += 1) {
    const subnet = subnetAt((start + step) % COUNT)
    if (!taken.includes(subnet.gateway)) yield subnet
  }
}

function subnetAt(index: number): Subnet {
  const first = index * SIZE
  const at = (offset: number) => [...BASE, (first + offset) >> 8, (first + offset) & 255].join('.')
  return { subnet: `${at(0)}/29`, gateway: at(1) }
}
