import { describe, expect, it } from '@jest/globals'
import { DEFAULT_PORTS, parseAllowedHost } from './network-host.js'

describe('a host that a task may reach', () => {
  it.each([
    ['example.com', 'example.com', false, DEFAULT_PORTS],
    ['EXAMPLE.com.', 'example.com', false, DEFAULT_PORTS],
    ['example.com:8443', 'example.com', false, [8443]],
    ['*.example.org', 'example.org', true, DEFAULT_PORTS],
    ['*.example.org:22', 'example.org', true, [22]],
    ['bücher.example', 'xn--bcher-kva.example', false, DEFAULT_PORTS],
    ['my_host', 'my_host', false, DEFAULT_PORTS],
    ['192.0.2.7', '192.0.2.7', false, DEFAULT_PORTS],
    // Every client takes these for the address that they are.
    ['0x7f.1', '127.0.0.1', false, DEFAULT_PORTS],
    ['[2001:DB8:0::1]:443', '2001:db8::1', false, [443]],
  ])('%s', (text, name, wildcard, ports) => {
    expect(parseAllowedHost(text)).toEqual({ name, wildcard, ports })
  })

  it.each([
    '',
    '*',
    '*.',
    '.example.com',
    'a..b',
    '*.192.0.2.7',
    '*.*.example.com',
    'www.*.com',
    'a b',
    'http://example.com',
    'example.com/path',
    'user@example.com',
    'example.com:0',
    'example.com:65536',
    'example.com:',
    '2001:db8::1',
    '[::1',
    '-a.example',
    `${'a'.repeat(64)}.example`,
    `${'a.'.repeat(130)}example`,
    'a%20b',
  ])('is not %j', text => {
    expect(parseAllowedHost(text)).toBeNull()
  })
})
