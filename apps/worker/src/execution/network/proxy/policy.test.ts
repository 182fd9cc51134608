import { networkInterfaces } from 'node:os'
import { describe, expect, it } from '@jest/globals'
import { parseRanges } from '../../../support/address-ranges.js'
import { METADATA_V4 } from '../../../workspace/git/address.js'
import { AllowList } from './allow-list.js'
import { Denials, MAX_DENIED } from './denials.js'
import { AddressPolicy } from './policy.js'

const policy = (opened: string, own: { address: string; port: number }[] = []) =>
  new AddressPolicy({ opened: parseRanges(opened).ranges, own })

describe('addresses', () => {
  const PRIVATE = [
    '0.0.0.0',
    '10.1.2.3',
    '100.64.0.1',
    '127.0.0.1',
    '169.254.1.1',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.1',
    '192.168.1.1',
    '198.18.0.1',
    '198.19.255.1',
    '224.0.0.251',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::127.0.0.1',
    'fe80::1',
    'fe80::1%eth0',
    'fc00::1',
    'fd12:3456::1',
    'ff02::1',
    '64:ff9b::7f00:1',
  ]

  it.each(PRIVATE)('%s is refused', address => {
    expect(policy('').refusal(address, 443)).toMatch(/private/)
  })

  it.each(['8.8.8.8', '172.32.0.1', '2001:4860:4860::8888', '::ffff:8.8.8.8'])('%s is not', address => {
    expect(policy('').refusal(address, 443)).toBeNull()
  })

  it.each(['169.254.169.254', '::ffff:169.254.169.254', 'fd00:ec2::254', '100.100.100.200', '168.63.129.16'])(
    'the metadata address %s is refused whatever is opened',
    address => {
      expect(policy('0.0.0.0/0, ::/0').refusal(address, 80)).toMatch(/credentials/)
    },
  )

  it('an own address of this machine is refused, and its IPv4-mapped form', () => {
    const lists = Object.values(networkInterfaces()).flatMap(list => list ?? [])
    const all = lists.filter(one => one.family === 'IPv4' && !one.internal).map(one => one.address)
    // Another test may be giving this machine one of these meanwhile.
    const own = all.filter(address => !METADATA_V4.includes(address))
    expect(own.length).toBeGreaterThan(0)
    for (const address of own) {
      expect(policy('').refusal(address, 443)).toMatch(/private/)
      expect(policy('').refusal(`::ffff:${address}`, 443)).toMatch(/private/)
    }
  })

  it('the operator opens ranges and single ports', () => {
    const some = policy('10.1.0.0/16, 192.168.7.7:8080 [fd00:1::]/32')
    expect(some.refusal('10.1.255.255', 1)).toBeNull()
    expect(some.refusal('::ffff:10.1.0.1', 1)).toBeNull()
    expect(some.refusal('10.2.0.0', 1)).toMatch(/private/)
    expect(some.refusal('192.168.7.7', 8080)).toBeNull()
    expect(some.refusal('192.168.7.7', 8081)).toMatch(/private/)
    expect(some.refusal('fd00:1:ffff::1', 1)).toBeNull()
    expect(some.refusal('fd00:2::1', 1)).toMatch(/private/)
  })

  it('where the runtime itself listens is refused, by each address that leads there', () => {
    const own = policy('0.0.0.0/0 ::/0', [
      { address: '127.0.0.1', port: 6379 },
      { address: '8.8.4.4', port: 2375 },
    ])
    for (const address of ['127.0.0.1', '127.0.0.2', '0.0.0.0', '::1', '::ffff:127.0.0.1']) {
      expect(own.refusal(address, 6379)).toMatch(/runtime/)
    }
    expect(own.refusal('127.0.0.1', 6380)).toBeNull()
    expect(own.refusal('8.8.4.4', 2375)).toMatch(/runtime/)
    expect(own.refusal('8.8.4.4', 443)).toBeNull()
  })

  it.each([
    '10.0.0.0/33',
    '10.0.0',
    'example.com',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    'fd00::/129',
    '[10.0.0.1]:80',
  ])('%j is no range', text => {
    expect(parseRanges(text)).toEqual({ ranges: [], problems: [expect.stringContaining(text)] })
  })
})

describe('hosts', () => {
  const list = new AllowList([
    'example.com',
    '*.example.org',
    'api.example.net:8443',
    '[2001:db8::1]',
    '192.0.2.1:22',
  ])

  it.each([
    ['example.com', 443, true],
    ['example.com', 80, true],
    ['example.com', 8080, false],
    ['www.example.com', 443, false],
    ['notexample.com', 443, false],
    ['example.org', 443, false],
    ['a.example.org', 443, true],
    ['b.a.example.org', 80, true],
    ['notexample.org', 443, false],
    ['api.example.net', 8443, true],
    ['api.example.net', 443, false],
    ['2001:db8::1', 443, true],
    ['192.0.2.1', 22, true],
    ['192.0.2.1', 443, false],
  ])('%s:%i', (host, port, allowed) => {
    expect(list.allows(host, port)).toBe(allowed)
  })

  it('a name in a ClientHello is compared in its one form, and nothing is cut off it', () => {
    expect(list.allowsName('EXAMPLE.com.', 443)).toBe(true)
    for (const odd of ['example.com/x', 'x@example.com', 'example.com:443', 'example.com\0.evil.example', ''])
      expect(list.allowsName(odd, 443)).toBe(false)
  })
})

describe('refusals', () => {
  it('are counted by place, and tell of each place once', () => {
    const denials = new Denials()
    expect(denials.add('a.example', 443)).toBe(true)
    expect(denials.add('a.example', 443)).toBe(false)
    expect(denials.add('a.example', 80)).toBe(true)
    expect(denials.list()).toEqual([
      { host: 'a.example', port: 443, count: 2 },
      { host: 'a.example', port: 80, count: 1 },
    ])
  })

  it('of any number of places take bounded room', () => {
    const denials = new Denials()
    const told = Array.from({ length: 100_000 }, (_, at) => denials.add(`h${at}.example`, 443)).filter(
      Boolean,
    )
    expect(told).toHaveLength(MAX_DENIED + 1)
    expect(denials.list()).toHaveLength(MAX_DENIED + 1)
    expect(denials.list().at(-1)).toEqual({ host: '*', port: 0, count: 100_000 - MAX_DENIED })
    expect(denials.add('h0.example', 443)).toBe(false)
    expect(denials.list()[0]).toEqual({ host: 'h0.example', port: 443, count: 2 })
  })
})
