import { once } from 'node:events'
import { createServer as createHttp, type Server as HttpServer, type IncomingMessage } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { eventually } from '@agirunner/test-kit'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { parseRanges } from '../../../support/address-ranges.js'
import { GatewayProxy, PROXY_LIMITS } from './gateway-proxy.js'
import type { Resolve } from './lookup.js'
import { AddressPolicy } from './policy.js'

/** Everything here happens on the loopback: tasks are at 127.0.0.1, the gateway at 127.0.0.2, servers at 127.0.0.3. */
const GATEWAY = '127.0.0.2'
const SERVER = '127.0.0.3'
const LIMITS = { ...PROXY_LIMITS, headMs: 400, connectMs: 2000 }

let proxy: GatewayProxy
let port: number
let web: HttpServer
let webPort: number
let requests: IncomingMessage[]
let ports: number[]
let denied: { host: string; port: number }[]
let names: Record<string, string[]>
const closing: (() => void)[] = []

const resolve: Resolve = async name => {
  const found = names[name]
  if (!found) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })
  return found.map(address => ({ address, family: address.includes(':') ? 6 : 4 }))
}

async function listen<T extends Server>(server: T, host: string): Promise<number> {
  server.listen(0, host)
  await once(server, 'listening')
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  closing.push(() => {
    server.close()
    for (const socket of sockets) socket.destroy()
  })
  return (server.address() as { port: number }).port
}

async function startProxy(limits = LIMITS, opened = `${SERVER}/32`): Promise<void> {
  proxy = new GatewayProxy({
    gateway: GATEWAY,
    port: 0,
    subnet: '127.0.0.0/29',
    policy: () => new AddressPolicy({ opened: parseRanges(opened).ranges, own: [] }),
    resolve: name => resolve(name),
    limits,
    onDenied: place => denied.push(place),
  })
  port = await proxy.listen()
}

beforeEach(async () => {
  denied = []
  requests = []
  ports = []
  web = createHttp((request, response) => {
    requests.push(request)
    ports.push(request.socket.remotePort ?? 0)
    if (request.url === '/away') response.writeHead(302, { location: 'http://evil.example/' })
    request.resume()
    request.on('end', () => response.end(`hello from ${request.headers.host}`))
  })
  webPort = await listen(web, SERVER)
  names = { 'good.example': [SERVER], 'evil.example': [SERVER] }
  await startProxy()
  proxy.bind([`good.example:${webPort}`])
})
afterEach(async () => {
  await proxy.close()
  for (const close of closing.splice(0)) close()
})

/** Sends bytes to the proxy. @returns what came back until it was closed, or `until` was seen */
async function talk(bytes: string | Buffer, { until = '', from = '127.0.0.1' } = {}): Promise<string> {
  const socket = connect({ host: GATEWAY, port, localAddress: from })
  socket.on('error', () => undefined)
  let answer = ''
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString('latin1')
    if (until !== '' && answer.includes(until)) socket.destroy()
  })
  socket.write(bytes)
  await closeOf(socket)
  return answer
}

const get = (url: string, headers = `Host: ${new URL(url).host}`) =>
  talk(`GET ${url} HTTP/1.1\r\n${headers}\r\nConnection: close\r\n\r\n`)

/** `once` would reject for a connection that ends with an error. */
function closeOf(socket: Socket): Promise<void> {
  return new Promise(resolve => socket.once('close', () => resolve()))
}

/** The next bytes, after those that the tunnel's head came with. */
async function read(socket: Socket): Promise<string> {
  const bytes = socket.read() as Buffer | null
  if (bytes !== null) return bytes.toString('latin1')
  await once(socket, 'readable')
  return await read(socket)
}

/** An open tunnel, paused. */
async function tunnel(to: string): Promise<Socket> {
  const socket = connect({ host: GATEWAY, port, localAddress: '127.0.0.1' })
  socket.on('error', () => undefined)
  closing.push(() => socket.destroy())
  socket.write(`CONNECT ${to} HTTP/1.1\r\nHost: ${to}\r\n\r\n`)
  let head = ''
  while (!head.includes('\r\n\r\n') || !(head.startsWith('HTTP/1.1 200 ') || socket.destroyed)) {
    await Promise.race([once(socket, 'readable'), closeOf(socket)])
    head += (socket.read() as Buffer | null)?.toString('latin1') ?? ''
    if (socket.destroyed) throw new Error(head)
  }
  socket.unshift(Buffer.from(head.slice(head.indexOf('\r\n\r\n') + 4), 'latin1'))
  return socket
}

describe('requests for what the task names', () => {
  it('are passed on, by plain HTTP and by CONNECT', async () => {
    expect(await get(`http://good.example:${webPort}/`)).toMatch(/200 OK[\s\S]*hello from good.example/)
    const socket = await tunnel(`GOOD.example.:${webPort}`)
    socket.write(`GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    expect(await read(socket)).toContain('200 OK')
    expect(denied).toEqual([])
  })

  it('carry any number of bytes whole, also when one side says first that it has ended', async () => {
    const bytes = 20_000_000
    const echo = createServer({ allowHalfOpen: true }, socket => socket.pipe(socket))
    const echoPort = await listen(echo, SERVER)
    proxy.bind([`good.example:${echoPort}`])
    const socket = await tunnel(`good.example:${echoPort}`)
    let got = 0
    socket.on('data', (chunk: Buffer) => {
      got += chunk.length
    })
    const closed = closeOf(socket)
    socket.end(Buffer.alloc(bytes, 'x'))
    await closed
    expect(got).toBe(bytes)
  })

  it('let a server speak first, and an upgraded connection speak both ways', async () => {
    const greeter = createServer(socket => {
      socket.write('SSH-2.0-hello\r\n')
      socket.on('data', data => socket.write(`got ${data.toString()}`))
    })
    const greeterPort = await listen(greeter, SERVER)
    proxy.bind([`good.example:${greeterPort}`])
    const socket = await tunnel(`good.example:${greeterPort}`)
    expect(await read(socket)).toBe('SSH-2.0-hello\r\n')
    socket.write('ping')
    expect(await read(socket)).toBe('got ping')
  })

  it('that find nobody are answered with the reason', async () => {
    names['good.example'] = []
    delete names['good.example']
    expect(await get(`http://good.example:${webPort}/`)).toMatch(
      /502 [\s\S]*"good.example" has no address: ENOTFOUND/,
    )
    names['good.example'] = [SERVER]
    proxy.bind(['good.example:1'])
    await expect(tunnel('good.example:1')).rejects.toThrow(/502[\s\S]*ECONNREFUSED/)
  })

  it('each get a connection of their own', async () => {
    for (let at = 0; at < 3; at += 1) await get(`http://good.example:${webPort}/`)
    expect(new Set(ports).size).toBe(3)
  })
})

describe('refused, with 403 and what to add', () => {
  it.each(['evil.example', 'sub.good.example', 'good.example.evil.example', 'xgood.example'])(
    'host %s',
    async host => {
      expect(await get(`http://${host}:${webPort}/`)).toMatch(
        /^HTTP\/1.1 403 [\s\S]*add "[^"]*" to environment.network.hosts/,
      )
      await expect(tunnel(`${host}:${webPort}`)).rejects.toThrow(/403[\s\S]*is not allowed for this task/)
      expect(denied).toEqual([{ host, port: webPort }])
      expect(proxy.denied()).toEqual([{ host, port: webPort, count: 2 }])
      expect(requests).toHaveLength(0)
    },
  )

  it('another port of the same host', async () => {
    await expect(tunnel('good.example:22')).rejects.toThrow(/403[\s\S]*add "good.example:22"/)
    await expect(tunnel('good.example:25')).rejects.toThrow('403')
    expect(denied).toEqual([
      { host: 'good.example', port: 22 },
      { host: 'good.example', port: 25 },
    ])
  })

  it('a name without a look at its addresses, so that no query carries anything out', async () => {
    const asked: string[] = []
    names = new Proxy(names, {
      get: (target, name: string) => {
        asked.push(name)
        return target[name]
      },
    })
    await get('http://secret-data.evil.example/')
    expect(asked).toEqual([])
    await get(`http://good.example:${webPort}/`)
    expect(asked).toEqual(['good.example'])
  })

  it.each([
    ['private', ['10.0.0.1']],
    ['one private of several', ['8.8.8.8', '192.168.0.1']],
    ['loopback', ['127.0.0.1']],
    ['mapped loopback', ['::ffff:127.0.0.1']],
    ['link-local', ['fe80::1']],
    ['metadata', ['169.254.169.254']],
  ])('an allowed name that leads to a %s address', async (_what, addresses) => {
    names['good.example'] = addresses
    expect(await get(`http://good.example:${webPort}/`)).toMatch(
      /403 [\s\S]*"good.example" can't be reached, because it is/,
    )
    expect(denied).toEqual([{ host: 'good.example', port: webPort }])
  })

  it('an address that the task lists itself', async () => {
    proxy.bind(['127.0.0.1', '10.0.0.1', '169.254.169.254', '[::1]', '[fe80::1]', '0x7f.1'])
    for (const host of [
      '127.0.0.1',
      '10.0.0.1',
      '169.254.169.254',
      '[::1]',
      '[fe80::1]',
      '2130706433',
      '127.1',
    ])
      expect(await get(`http://${host}/`)).toMatch(/403 [\s\S]*can't be reached/)
  })

  it('the proxy as a way to itself and to its neighbours', async () => {
    proxy.bind([`${GATEWAY}:${port}`, `good.example:${port}`])
    names['good.example'] = [GATEWAY]
    await expect(tunnel(`${GATEWAY}:${port}`)).rejects.toThrow('403')
    await expect(tunnel(`good.example:${port}`)).rejects.toThrow('403')
  })

  it('where a redirect leads: it is a request like any other', async () => {
    const answer = await get(`http://good.example:${webPort}/away`)
    const [, location = ''] = /location: (\S+)/i.exec(answer) ?? []
    expect(await get(location)).toContain('403')
    expect(denied).toEqual([{ host: 'evil.example', port: 80 }])
  })
})

describe('a name that changes its address between the check and the connection', () => {
  it('does not matter: the connection goes to what was checked', async () => {
    let asked = 0
    const inside = createHttp((_request, response) => response.end('INSIDE'))
    inside.listen(webPort, '127.0.0.4')
    await once(inside, 'listening')
    closing.push(() => inside.close())
    names = new Proxy(
      {},
      {
        get: () => {
          asked += 1
          return asked === 1 ? [SERVER] : ['127.0.0.4']
        },
      },
    )
    expect(await get(`http://good.example:${webPort}/`)).toContain('hello')
    expect(asked).toBe(1)
    // The control: had the name been asked for once more, this is where it would have led.
    expect(names['good.example']).toEqual(['127.0.0.4'])
    expect(await get(`http://good.example:${webPort}/`)).toContain('403')
  })
})

describe('what poses as something else', () => {
  it.each([
    ['another host in the header', 'Host: evil.example'],
    ['the same host with another port', 'Host: good.example:1'],
    ['two hosts', `Host: good.example:WEB\r\nHost: evil.example`],
    ['no host', 'X: y'],
    ['a host that is none', 'Host: a b'],
  ])('%s is refused', async (_what, headers) => {
    expect(await get(`http://good.example:${webPort}/`, headers.replace('WEB', String(webPort)))).toMatch(
      /^HTTP\/1.1 400 /,
    )
    expect(requests).toHaveLength(0)
  })

  it('a body without length where it could pose as a second request is refused', async () => {
    const smuggled = 'GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n'
    const chunked = `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`
    const head = `Host: good.example:${webPort}\r\nTransfer-Encoding: chunked`
    const answer = await talk(`GET http://good.example:${webPort}/ HTTP/1.1\r\n${head}\r\n\r\n${chunked}`)
    expect(answer).toMatch(/^HTTP\/1.1 411 /)
    expect(requests).toHaveLength(0)
  })

  it('a length in two ways is refused', async () => {
    const head = `Host: good.example:${webPort}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3`
    const answer = await talk(`POST http://good.example:${webPort}/ HTTP/1.1\r\n${head}\r\n\r\n0\r\n\r\n`)
    expect(answer).toMatch(/^HTTP\/1.1 400 /)
  })

  it.each(['ftp://good.example/', 'https://good.example/', 'file:///etc/passwd', '/', '*', 'http://'])(
    'a request for %s is refused',
    async url => {
      expect(await talk(`GET ${url} HTTP/1.1\r\nHost: good.example\r\n\r\n`)).toMatch(/^HTTP\/1.1 400 /)
    },
  )

  it.each([
    'good.example',
    'good.example:0',
    'good.example:99999',
    ':443',
    'good.example%2eevil.example:443',
  ])('CONNECT to %s is refused', async to => {
    await expect(tunnel(to)).rejects.toThrow(/HTTP\/1.1 40[03] /)
  })

  it('an HTTP/2 or TLS beginning toward the proxy is refused', async () => {
    expect(await talk('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /)
    expect(await talk(Buffer.from([22, 3, 1, 0, 5, 1, 0, 0, 1, 0]))).toMatch(/^HTTP\/1.1 400 /)
  })
})

describe('the name in a ClientHello', () => {
  let seen: Buffer[]
  let tlsPort: number
  let passed: Promise<'passed'>
  beforeEach(async () => {
    seen = []
    const sink = createServer(socket =>
      socket.on('data', chunk => {
        seen.push(chunk)
        sink.emit('passed')
      }),
    )
    passed = once(sink, 'passed').then(() => 'passed' as const)
    tlsPort = await listen(sink, SERVER)
    proxy.bind([`good.example:${tlsPort}`, `*.wild.example:${tlsPort}`])
  })

  async function helloThrough(servername: string): Promise<'closed' | 'passed'> {
    const socket = await tunnel(`good.example:${tlsPort}`)
    const closed = closeOf(socket).then(() => 'closed' as const)
    connectTls({ socket, servername }).on('error', () => undefined)
    return await Promise.race([closed, passed])
  }

  it.each(['good.example', 'GOOD.example', 'a.wild.example', ''])('%j is passed on', async name => {
    expect(await helloThrough(name)).toBe('passed')
    expect(denied).toEqual([])
  })

  it.each(['evil.example', 'wild.example'])(
    '%s ends the connection before a byte of it goes out',
    async name => {
      expect(await helloThrough(name)).toBe('closed')
      expect(seen).toEqual([])
      expect(denied).toEqual([{ host: name, port: tlsPort }])
    },
  )

  it('that never comes whole ends it too', async () => {
    const socket = await tunnel(`good.example:${tlsPort}`)
    socket.write(Buffer.from([22, 3, 1, 2, 0, 1, 0, 1]))
    await closeOf(socket)
    expect(seen).toEqual([])
    expect(denied).toEqual([{ host: '(unreadable TLS name)', port: tlsPort }])
  })
})

describe('who asks', () => {
  it('must be in the network, and not its gateway', async () => {
    const request = `GET http://good.example:${webPort}/ HTTP/1.1\r\nHost: good.example:${webPort}\r\nConnection: close\r\n\r\n`
    expect(await talk(request, { from: '127.0.0.5' })).toContain('200 OK')
    for (const from of ['127.0.0.9', '127.1.0.1', GATEWAY]) expect(await talk(request, { from })).toBe('')
  })

  it('is nobody when no task is bound', async () => {
    proxy.unbind()
    expect(await get(`http://good.example:${webPort}/`)).toMatch(/403 [\s\S]*no task is known/)
    expect(proxy.denied()).toEqual([])
  })

  it('loses everything when another task is bound: connections, names, counts', async () => {
    const echo = await listen(
      createServer(socket => socket.pipe(socket)),
      SERVER,
    )
    proxy.bind([`good.example:${echo}`])
    const socket = await tunnel(`good.example:${echo}`)
    await get('http://evil.example/')
    const closed = closeOf(socket)
    proxy.bind([`other.example:${echo}`])
    await closed
    expect(proxy.denied()).toEqual([])
    await expect(tunnel(`good.example:${echo}`)).rejects.toThrow('403')
  })
})

describe('limits', () => {
  it('a head that does not come is waited for no longer than its time', async () => {
    const started = performance.now()
    expect(await talk('GET http://good.example/ HTTP/1.1\r\nHost: good')).not.toContain('200')
    expect(performance.now() - started).toBeLessThan(5000)
  })

  it('a huge head is refused', async () => {
    const huge = `X: ${'x'.repeat(100_000)}`
    expect(await get(`http://good.example:${webPort}/`, huge)).toMatch(/^(HTTP\/1.1 4\d\d |$)/)
    expect(requests).toHaveLength(0)
  })

  it('connections of one task are counted', async () => {
    await proxy.close()
    await startProxy({ ...LIMITS, headMs: 60_000, connections: 10 })
    proxy.bind([`good.example:${webPort}`])
    const held = Array.from({ length: 10 }, () => connect(port, GATEWAY))
    await Promise.all(held.map(socket => once(socket, 'connect')))
    expect(await get(`http://good.example:${webPort}/`)).toBe('')
    for (const socket of held) socket.destroy()
    await eventually(async () => (await get(`http://good.example:${webPort}/`)).includes('200 OK'))
  })

  it('so are requests that come in a row on one connection', async () => {
    const silent = await listen(createServer(), SERVER)
    await proxy.close()
    await startProxy({ ...LIMITS, connections: 10 })
    proxy.bind([`good.example:${silent}`])
    const one = `GET http://good.example:${silent}/ HTTP/1.1\r\nHost: good.example:${silent}\r\n\r\n`
    const started = performance.now()
    await talk(one.repeat(1000))
    expect(performance.now() - started).toBeLessThan(5000)
  })

  it('names are resolved a few at a time', async () => {
    let most = 0
    let now = 0
    const waiting: (() => void)[] = []
    await proxy.close()
    proxy = new GatewayProxy({
      gateway: GATEWAY,
      port: 0,
      subnet: '127.0.0.0/29',
      policy: () => new AddressPolicy({ opened: [], own: [] }),
      resolve: async () => {
        now += 1
        most = Math.max(most, now)
        await new Promise<void>(done => waiting.push(done))
        now -= 1
        return [{ address: '10.0.0.1', family: 4 }]
      },
      limits: LIMITS,
      onDenied: () => undefined,
    })
    port = await proxy.listen()
    proxy.bind(['*.example'])
    const all = Promise.all(Array.from({ length: 40 }, (_, at) => get(`http://n${at}.example/`)))
    let answered = 0
    while (answered < 40) {
      await eventually(() => waiting.length > 0)
      for (const done of waiting.splice(0)) {
        answered += 1
        done()
      }
    }
    await all
    expect(most).toBe(LIMITS.lookups)
  })

  it('a connection without a byte is closed', async () => {
    const silent = await listen(createServer(), SERVER)
    await proxy.close()
    await startProxy({ ...LIMITS, idleMs: 300 })
    proxy.bind([`good.example:${silent}`])
    const socket = await tunnel(`good.example:${silent}`)
    await closeOf(socket)
  })
})
