import { once } from 'node:events'
import { connect as connectTcp, createServer } from 'node:net'
import { connect } from 'node:tls'
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { MAX_HELLO, readHello } from './client-hello.js'

/** What Node's own TLS client sends first. */
async function helloOf(servername: string): Promise<Buffer> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const plain = connectTcp(port, '127.0.0.1')
  const client = connect({ socket: plain, servername })
  client.on('error', () => undefined)
  const [socket] = (await once(server, 'connection')) as [import('node:net').Socket]
  const [hello] = (await once(socket, 'data')) as [Buffer]
  for (const one of [client, plain, socket]) one.destroy()
  server.close()
  return hello
}

/** The same handshake in records of `size` bytes. */
function cut(hello: Buffer, size: number): Buffer {
  const body = hello.subarray(5)
  const records: Buffer[] = []
  for (let at = 0; at < body.length; at += size) {
    const part = body.subarray(at, at + size)
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part)
  }
  return Buffer.concat(records)
}

describe('the first bytes of a connection', () => {
  it('tell the name that a TLS client asks for', async () => {
    expect(readHello(await helloOf('a.example'))).toEqual({ type: 'tls', names: ['a.example'] })
  })

  it('tell that it asks for none', async () => {
    expect(readHello(await helloOf(''))).toEqual({ type: 'tls', names: [] })
  })

  it('are read across any border of records', async () => {
    const hello = await helloOf('a.example')
    for (const size of [16, 40, 100, 500])
      expect(readHello(cut(hello, size))).toMatchObject({ names: ['a.example'] })
  })

  it('are waited for at every byte', async () => {
    const hello = cut(await helloOf('a.example'), 100)
    for (let length = 0; length < hello.length; length += 1) {
      expect(readHello(hello.subarray(0, length)).type).toBe('partial')
    }
  })

  it('are given up in one-byte records, which only cost time', async () => {
    expect(readHello(cut(await helloOf('a.example'), 1)).type).toBe('broken')
  })

  it('may be of another protocol', () => {
    expect(readHello(Buffer.from('SSH-2.0-x\r\n')).type).toBe('other')
  })

  it('never throw and never wait for ever, whatever they are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), bytes => {
        expect(['partial', 'other', 'tls', 'broken']).toContain(
          readHello(Buffer.concat([Buffer.from([22, 3, 1]), bytes])).type,
        )
      }),
    )
    const endless = Buffer.alloc(MAX_HELLO + 10)
    endless.set([22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff])
    for (let at = 0; at + 5 < endless.length; at += 5 + 0x4000) endless.set([22, 3, 1, 0x40, 0], at)
    endless.set([1, 0, 0xff, 0xff], 5)
    expect(readHello(endless).type).not.toBe('partial')
  })

  it('with a broken inside are not taken for TLS without a name', async () => {
    const hello = await helloOf('a.example')
    const broken = Buffer.from(hello)
    // The session id's length: everything after it is shifted.
    broken[5 + 4 + 34] = 255
    expect(readHello(broken).type).toBe('broken')
  })
})
