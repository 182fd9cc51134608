import { lookup as resolveName } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'

/** Where clouds hand out a machine's own credentials. Refused whatever the operator allows. */
const METADATA = new BlockList()
export const METADATA_V4 = [
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '100.100.100.200',
  '192.0.0.192',
  // Azure's is in a public range.
  '168.63.129.16',
]
for (const address of METADATA_V4) METADATA.addAddress(address)
METADATA.addAddress('fd00:ec2::254', 'ipv6')
METADATA.addAddress('fd00:ec2::23', 'ipv6')

const PRIVATE = new BlockList()
export const PRIVATE_V4 = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const
const PRIVATE_V6 = [
  ['::', 127],
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['2002::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
] as const
for (const [net, bits] of PRIVATE_V4) PRIVATE.addSubnet(net, bits)
for (const [net, bits] of PRIVATE_V6) PRIVATE.addSubnet(net, bits, 'ipv6')

export type AddressKind = 'public' | 'private' | 'metadata'

/** What an IP address (4 or 6, no brackets) is to this machine; what is no address at all counts as private. */
export function kindOf(address: string): AddressKind {
  const plain = embeddedV4(address) ?? address
  const family = isIP(plain)
  if (family === 0) return 'private'
  const type = family === 6 ? 'ipv6' : 'ipv4'
  if (METADATA.check(plain, type)) return 'metadata'
  return PRIVATE.check(plain, type) ? 'private' : 'public'
}

/** `::ffff:a.b.c.d`, however it is written, is the IPv4 address to the kernel. */
export function embeddedV4(address: string): string | null {
  if (isIP(address) !== 6) return null
  const canonical = new URL(`http://[${address.split('%')[0]}]/`).hostname.slice(1, -1)
  const match = /^::(?:ffff:)?([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical)
  if (!match) return null
  const [high, low] = [Number.parseInt(match[1] ?? '', 16), Number.parseInt(match[2] ?? '', 16)]
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** Resolves as the system does and refuses the whole name when any of its addresses may not be reached. */
export function checkedLookup(check: (address: string) => void): LookupFunction {
  return (host, options, callback) => {
    resolveName(host, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, '', 0)
      try {
        for (const { address } of addresses) check(address)
      } catch (refused) {
        return callback(refused as Error, '', 0)
      }
      const [first] = addresses
      if (options.all) callback(null, addresses as never)
      else callback(null, first?.address ?? '', first?.family ?? 4)
    })
  }
}
