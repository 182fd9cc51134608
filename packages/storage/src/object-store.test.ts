import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, startS3, type TestS3 } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { StorageError } from './errors.js'
import { ObjectStore } from './object-store.js'
import { Credentials, type S3Settings } from './settings.js'

const MIB = 1024 * 1024
let s3: TestS3
let folder: string
let settings: S3Settings
const opened: ObjectStore[] = []

beforeAll(async () => {
  s3 = await startS3()
  folder = await mkdtemp(join(tmpdir(), 'agirunner-bucket-'))
  settings = {
    bucket: s3.bucket,
    prefix: 'deep/down/',
    endpoint: s3.endpoint,
    region: 'us-east-1',
    pathStyle: true,
    credentials: new Credentials(s3),
  }
})
afterEach(async () => {
  for (const bucket of opened.splice(0)) await bucket.close()
})
afterAll(async () => {
  await rm(folder, { recursive: true })
  await s3.stop()
})

function open(other: Partial<S3Settings> = {}): ObjectStore {
  const bucket = new ObjectStore({ ...settings, ...other })
  opened.push(bucket)
  return bucket
}

async function file(bytes: Buffer): Promise<{ path: string; sha256: string }> {
  const path = join(folder, 'a-file')
  await writeFile(path, bytes)
  return { path, sha256: createHash('sha256').update(bytes).digest('hex') }
}

async function readAll(bucket: ObjectStore, key: string): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of bucket.read(key)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function failureOf(work: Promise<unknown>): Promise<StorageError> {
  const error = await work.then(() => null).catch((failure: unknown) => failure)
  expect(error).toBeInstanceOf(StorageError)
  return error as StorageError
}

/** Passes everything through, and may change or cut off what goes by. */
async function between(meddle: (chunk: Buffer, seen: number, socket: Socket) => Buffer, side: 'up' | 'down') {
  let seen = 0
  const target = Number(new URL(s3.endpoint).port)
  const open = new Set<Socket>()
  const server: Server = createServer(client => {
    const behind = connect(target, '127.0.0.1')
    for (const socket of [client, behind]) {
      open.add(socket)
      socket.on('error', () => undefined)
    }
    client.on('close', () => behind.destroy())
    behind.on('close', () => client.destroy())
    const pass = (from: Socket, to: Socket, isMeddled: boolean) =>
      from.on('data', chunk => {
        seen += isMeddled ? chunk.length : 0
        to.write(isMeddled ? meddle(chunk, seen, client) : chunk)
      })
    pass(client, behind, side === 'up')
    pass(behind, client, side === 'down')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    endpoint: `http://127.0.0.1:${(server.address() as { port: number }).port}`,
    close: async () => {
      for (const socket of open) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

describe('a bucket', () => {
  it.each([0, 1, 5 * MIB - 1, 5 * MIB, 11 * MIB + 3])('gives back the %d bytes that it got', async size => {
    const bytes = randomBytes(size)
    const bucket = open()
    expect(await bucket.put('a/b', await file(bytes))).toBe(size)
    expect((await readAll(bucket, 'a/b')).equals(bytes)).toBe(true)
    expect((await s3.read('deep/down/a/b')).equals(bytes)).toBe(true)
    await bucket.delete('a/b')
    expect(await s3.keys()).toEqual([])
    expect((await failureOf(readAll(bucket, 'a/b'))).reason).toBe('missing')
  })

  it('can be checked, and nothing is left of that', async () => {
    await open().check('worker-1')
    expect(await s3.keys()).toEqual([])
  })

  it('lists over more than a page, in order, nothing of its neighbours', async () => {
    const bucket = open()
    const keys = Array.from({ length: 120 }, (_, index) => `l/${String(index).padStart(4, '0')}`)
    const waiting = [...keys]
    const writer = async () => {
      for (let key = waiting.pop(); key; key = waiting.pop()) await bucket.write(key, '')
    }
    await Promise.all(Array.from({ length: 16 }, writer))
    await s3.write('deep/downstairs', Buffer.from('x'))
    const seen: string[] = []
    for await (const key of bucket.list('l/')) seen.push(key)
    expect(seen).toEqual(keys)
    for await (const key of bucket.list('')) await bucket.delete(key)
    expect(await s3.keys()).toEqual(['deep/downstairs'])
    await s3.delete('deep/downstairs')
  }, 120_000)

  it('leaves nothing of a file that is not what was captured, large or small', async () => {
    const bucket = open()
    for (const size of [10, 12 * MIB]) {
      const { path } = await file(randomBytes(size))
      const failure = await failureOf(bucket.put('a/b', { path, sha256: '0'.repeat(64) }))
      expect(failure).toMatchObject({
        reason: 'damaged',
        message: expect.stringContaining('SHA-256 differs'),
      })
      expect([...(await s3.keys()), ...(await s3.unfinished())]).toEqual([])
    }
  })

  it('gives up a transfer when it is told to, with its parts', async () => {
    const bucket = open()
    const controller = new AbortController()
    const stopped = bucket.put('a/b', await file(randomBytes(30 * MIB)), controller.signal)
    await eventually(async () => (await s3.unfinished()).length === 1, { what: 'the upload' })
    controller.abort(new Error('canceled'))
    await expect(stopped).rejects.toThrow('canceled')
    await eventually(async () => (await s3.unfinished()).length === 0, { what: 'the end of the upload' })
    expect(await s3.keys()).toEqual([])
  })

  it('cleans up uploads that nobody will end', async () => {
    const bucket = open()
    const proxy = await between((chunk, seen, socket) => {
      if (seen <= 8 * MIB) return chunk
      // Also what would give the upload up: so ends a worker that is killed.
      socket.destroy()
      return Buffer.alloc(0)
    }, 'up')
    const broken = open({ endpoint: proxy.endpoint })
    await failureOf(broken.put('a/b', await file(randomBytes(30 * MIB))))
    await proxy.close()
    expect(await s3.unfinished()).toEqual(['deep/down/a/b'])
    await bucket.abortUploads('other/')
    expect(await s3.unfinished()).toHaveLength(1)
    await bucket.abortUploads('a/')
    expect(await s3.unfinished()).toEqual([])
    expect(await s3.keys()).toEqual([])
  }, 60_000)

  it('takes a download up where it broke', async () => {
    const bytes = randomBytes(12 * MIB)
    await open().put('a/b', await file(bytes))
    let cuts = 0
    const proxy = await between((chunk, seen, socket) => {
      if (seen > (cuts + 1) * 3 * MIB && cuts < 2) {
        cuts += 1
        socket.destroy()
      }
      return chunk
    }, 'down')
    expect((await readAll(open({ endpoint: proxy.endpoint }), 'a/b')).equals(bytes)).toBe(true)
    expect(cuts).toBe(2)
    await proxy.close()
    await open().delete('a/b')
  })

  it('notices a byte that changed on its way to the server', async () => {
    const proxy = await between(chunk => {
      const at = chunk.indexOf('needle')
      if (at >= 0) chunk[at] = 'N'.charCodeAt(0)
      return chunk
    }, 'up')
    const { path, sha256 } = await file(Buffer.from('hay needle hay'))
    const failure = await failureOf(open({ endpoint: proxy.endpoint }).put('a/b', { path, sha256 }))
    expect(failure.reason).toBe('damaged')
    await proxy.close()
    expect(await s3.keys()).toEqual([])
  })
})

describe('a bucket that can’t be used', () => {
  const refused: [string, () => Partial<S3Settings>, string, RegExp][] = [
    [
      'wrong secret',
      () => ({ credentials: new Credentials({ ...s3, secretAccessKey: 'no' }) }),
      'refused',
      /403/,
    ],
    ['wrong key', () => ({ credentials: new Credentials({ ...s3, accessKeyId: 'no' }) }), 'refused', /403/],
    ['wrong region', () => ({ region: 'mars-1' }), 'refused', /400|403/],
    ['no bucket', () => ({ bucket: 'not-there' }), 'no_bucket', /NoSuchBucket/],
    ['no server', () => ({ endpoint: 'http://127.0.0.1:1' }), 'unreachable', /ECONNREFUSED/],
  ]
  it.each(refused)('says so: %s', async (_name, other, reason, why) => {
    const bucket = open(other())
    const found = await Promise.all([
      failureOf(bucket.check('x')),
      failureOf(bucket.put('a/b', await file(randomBytes(6 * MIB)))),
      failureOf(readAll(bucket, 'a/b')),
    ])
    for (const failure of found) {
      expect(failure).toMatchObject({ reason, message: expect.stringMatching(why) })
      expect(failure.message).toMatch(/^s3:\/\/.* can't be .*; /)
      expect(failure.hint).not.toBe('')
    }
    expect(await s3.keys()).toEqual([])
  })
})

describe('an address in a bucket', () => {
  const bucket = () => new ObjectStore({ ...settings, bucket: 'left' })

  it('leads to what lies in its folder', () => {
    expect(bucket().keyOf('s3://left/deep/down/acme/t-1/1-0a/log', 'acme/t-1/')).toBe('acme/t-1/1-0a/log')
  })

  it.each([
    's3://other/deep/down/acme/t-1/1-0a/log',
    's3://left/deep/down/acme/t-2/1-0a/log',
    's3://left/deep/down/other/t-1/1-0a/log',
    's3://left/acme/t-1/1-0a/log',
    's3://left/deep/down/acme/t-1/../t-2/log',
    's3://left/deep/down/acme/t-1/%2e%2e/t-2/log',
    's3://left/deep/down/acme/t-1//log',
    's3://left/deep/down/acme/t-1/',
    's3://left@evil/deep/down/acme/t-1/log',
    'file:///etc/passwd',
    '',
  ])('leads nowhere else: %s', uri => {
    expect(bucket().keyOf(uri, 'acme/t-1/')).toBeNull()
  })
})
