import { appendFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LogEntry } from '@agirunner/contracts'
import { logEntryOf, redisNames } from '@agirunner/contracts'
import { removeQueue, startRedis, type TestRedis, uniqueQueue } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { Redis } from 'ioredis'
import { LogCapture, type LogCaptureOptions } from '../capture/log/log-capture.js'
import { LogStream } from '../capture/log/log-stream.js'
import { Redactor } from '../support/redactor.js'
import { Secret } from '../support/secret.js'

const FENCE = 7
let server: TestRedis
let redis: Redis
beforeAll(async () => {
  server = await startRedis()
  redis = new Redis(server.url)
})
afterAll(async () => {
  redis.disconnect()
  await server.stop()
})

let queue: string
let taskId: string
let folder: string
let truncatedAt: number[]
let ceilings: number
beforeEach(async () => {
  queue = uniqueQueue('log')
  taskId = `t-${Math.random().toString(36).slice(2)}`
  folder = await mkdtemp(join(tmpdir(), 'agirunner-log-'))
  truncatedAt = []
  ceilings = 0
  await mkdir(join(folder, 'slot'))
  for (const name of ['o', 'e', 's']) await writeFile(join(folder, 'slot', name), '')
  await redis.hset(redisNames(queue).record(taskId), 'fence', FENCE)
})
afterEach(async () => {
  await removeQueue(server.url, queue)
  await rm(folder, { recursive: true, force: true })
})

async function openCapture(options: Partial<LogCaptureOptions> = {}): Promise<LogCapture> {
  const task = { taskId, attempt: 1, fence: FENCE }
  return await LogCapture.open({
    folder: join(folder, 'slot'),
    file: join(folder, 'log'),
    stream: await LogStream.open(redis, redisNames(queue), task, false),
    redactor: Redactor.of([]),
    steps: [],
    limitBytes: 64 * 2 ** 20,
    ceilingBytes: 2 ** 30,
    onTruncated: bytes => truncatedAt.push(bytes),
    onCeiling: () => {
      ceilings += 1
    },
    ...options,
  })
}

const print = (stream: 'o' | 'e', text: string | Buffer) => appendFile(join(folder, 'slot', stream), text)

async function entries(): Promise<LogEntry[]> {
  const raw = await redis.xrange(redisNames(queue).log(taskId), '-', '+')
  return raw.map(([id, [e, head = '', t, text = '']]) => {
    const fields = new Map([
      [e ?? '', head],
      [t ?? '', text],
    ])
    return logEntryOf(Number.parseInt(id, 10), fields) as LogEntry
  })
}

async function told(stream: LogEntry['stream']): Promise<string> {
  return (await entries())
    .filter(entry => entry.stream === stream)
    .map(({ text }) => text)
    .join('')
}

const stored = () => readFile(join(folder, 'log'))

/** Lines with characters of one to four bytes. */
function lines(count: number, name = 'line'): string {
  return Array.from({ length: count }, (_, index) => `${name} ${index} a ö € 𝄞\n`).join('')
}

describe('the capture of a log', () => {
  it('tells all of both streams, in order and once, and stores the same', async () => {
    const capture = await openCapture()
    const [out, err] = [Buffer.from(lines(5000, 'out')), Buffer.from(lines(3000, 'err'))]
    for (let at = 0; at < out.length; at += 997) {
      await print('o', out.subarray(at, at + 997))
      await print('e', err.subarray(at, at + 997))
    }
    const summary = await capture.finish()
    expect(await told('stdout')).toBe(out.toString())
    expect(await told('stderr')).toBe(err.subarray(0, out.length).toString())
    const all = await entries()
    expect(all.map(({ seq }) => seq)).toEqual(all.map((_, index) => index + 1))
    expect((await stored()).toString()).toBe(all.map(({ text }) => text).join(''))
    expect(summary).toMatchObject({ bytes: out.length + err.length, lines: 8000, truncated: false })
    for (const { offset, text, stream } of all) {
      const bytes = stream === 'stdout' ? out : err
      expect(bytes.subarray(offset, offset + Buffer.byteLength(text)).toString()).toBe(text)
    }
    await capture.settled()
    await expect(stat(join(folder, 'log.index'))).rejects.toThrow(/ENOENT/)
  })

  it('counts a last line without a newline, and keeps bytes that are no UTF-8', async () => {
    const capture = await openCapture()
    const bytes = Buffer.from([0x61, 0xff, 0xfe, 0x0a, 0xc3, 0x28, 0x80, 0xe2, 0x82])
    await print('o', bytes)
    expect(await capture.finish()).toMatchObject({ bytes: bytes.length, lines: 2, truncated: false })
    expect((await stored()).equals(bytes)).toBe(true)
    expect(await told('stdout')).toBe(bytes.toString())
  })

  it('tells live what is below the limit less its tail', async () => {
    const capture = await openCapture({ limitBytes: 8192 })
    await print('o', 'q'.repeat(6000))
    let seen = ''
    while (seen.length < 6000) seen = await told('stdout')
    await print('o', 'y'.repeat(2192))
    expect(await capture.finish()).toMatchObject({ bytes: 8192, truncated: false })
    expect(await told('stdout')).toBe('q'.repeat(6000) + 'y'.repeat(2192))
    expect(truncatedAt).toEqual([])
  })

  it.each([1, 100, 4096, 8192, 100_000])(
    'keeps head and tail within a limit of %d bytes',
    async limitBytes => {
      const capture = await openCapture({ limitBytes })
      const [out, err] = [lines(20_000, 'out'), lines(20_000, 'err')]
      await print('o', out)
      await print('e', err)
      const { bytes, truncated, lines: counted } = await capture.finish()
      expect({ bytes, truncated, counted }).toEqual({
        bytes: Buffer.byteLength(out + err),
        truncated: true,
        counted: 40_000,
      })
      expect(truncatedAt).toEqual([limitBytes])
      const log = await stored()
      expect(log.length).toBeLessThanOrEqual(limitBytes)
      // Not much less: what is missing are parts of characters and the room for the line between.
      expect(log.length).toBeGreaterThanOrEqual(limitBytes - (limitBytes < 4096 ? 3 : 100))
      expect(Buffer.from(log.toString()).equals(log)).toBe(true)
      expect((await entries()).map(({ text }) => text).join('')).toBe(log.toString())
      if (limitBytes < 4096) return
      const [head = '', tail = ''] = log
        .toString()
        .split(/\n?agirunner: \d+ bytes of the log are left out here\n/)
      expect((out + err).startsWith(head) || (err + out).startsWith(head)).toBe(true)
      expect((out + err).endsWith(tail) || (err + out).endsWith(tail)).toBe(true)
      const missing = Number(/agirunner: (\d+) bytes/.exec(log.toString())?.[1])
      expect(Math.abs(Buffer.byteLength(out + err) - Buffer.byteLength(head + tail) - missing)).toBeLessThan(
        8,
      )
    },
  )

  it('says once when there is more than the operator allows', async () => {
    const capture = await openCapture({ ceilingBytes: 10_000 })
    await print('o', 'x'.repeat(9000))
    await print('e', 'x'.repeat(9000))
    await capture.finish()
    expect(ceilings).toBe(1)
    expect(capture.overCeiling).toBe(true)
  })

  it('cuts where a step begins', async () => {
    const capture = await openCapture({ steps: ['one', 'two'] })
    await appendFile(join(folder, 'slot/s'), 'g\nb 0 0 0 1.0\n')
    await print('o', 'of the first')
    await appendFile(join(folder, 'slot/s'), 'x 0 0 2.0\nb 1 12 0 2.0\n')
    await print('o', 'of the second')
    await capture.finish()
    expect((await entries()).map(({ step, text }) => [step, text])).toEqual([
      ['one', 'of the first'],
      ['two', 'of the second'],
    ])
  })
})

describe('an entry that Redis refuses', () => {
  it('is an error also when nobody waited for it, and nothing comes after the gap', async () => {
    const key = redisNames(queue).log(taskId)
    const stream = await LogStream.open(redis, redisNames(queue), { taskId, attempt: 1, fence: FENCE }, true)
    const bytes = Buffer.from('text')
    const part = { stream: 'stdout' as const, step: null, offset: 0, length: bytes.length, bytes }
    await redis.set(key, 'not a stream')
    await stream.write([part])
    // The same connection answers in order: the refusal is there now, and a stream could be written again.
    await redis.del(key)
    await redis.ping()
    await expect(stream.write([part])).rejects.toThrow(/WRONGTYPE/)
    await expect(stream.flush()).rejects.toThrow(/WRONGTYPE/)
    expect(await entries()).toEqual([])
  })
})

describe('secrets in a log', () => {
  const secret = 'correct-horse-battery-staple'
  const redactor = Redactor.of([{ name: 'S', value: new Secret(secret) }])

  it('are told nowhere, wherever the head ends and the tail begins', async () => {
    // Dense enough that every border lies in one of them.
    const text = `${secret}.`.repeat(2000)
    for (const limitBytes of [4096, 4097, 4103, 4110, 4111, 4112, 4113, 4120, 4124]) {
      await writeFile(join(folder, 'slot/o'), '')
      const capture = await openCapture({ limitBytes, redactor, file: join(folder, `log-${limitBytes}`) })
      await print('o', text)
      expect((await capture.finish()).truncated).toBe(true)
      const log = (await readFile(join(folder, `log-${limitBytes}`))).toString()
      expect(log.length).toBeLessThanOrEqual(limitBytes)
      expect(log.replace(/\n?agirunner: .*\n/, '')).toMatch(/^[*.]+$/)
      expect(log.length).toBeGreaterThan(400)
    }
    expect((await entries()).map(entry => entry.text).join('')).not.toMatch(/[a-z]{4}-/)
  })

  it('take no byte more than the limit where they lie on it', async () => {
    for (let before = 90; before <= 100; before += 1) {
      // Emptied first: a log only grows.
      await writeFile(join(folder, 'slot/o'), '')
      const capture = await openCapture({ limitBytes: 100, redactor, file: join(folder, `log-${before}`) })
      await print('o', `${'x'.repeat(before)}${secret}${'y'.repeat(200)}`)
      await capture.finish()
      const mask = '***'.slice(0, 100 - before)
      expect((await readFile(join(folder, `log-${before}`))).toString()).toBe('x'.repeat(before) + mask)
    }
  })
})

/** Leaves the stream as it was before its last entries came. */
async function forgetLast(count: number): Promise<void> {
  const key = redisNames(queue).log(taskId)
  const all = await redis.xrange(key, '-', '+')
  await redis.del(key)
  for (const [id, fields] of all.slice(0, all.length - count)) await redis.xadd(key, id, ...fields)
}

describe('a log that another worker began', () => {
  it('goes on where Redis has got to, however often', async () => {
    const secret = 'a secret of some length'
    const redactor = Redactor.of([{ name: 'S', value: new Secret(secret) }])
    const text = Array.from(
      { length: 4000 },
      (_, index) => `${index} ${secret} ö€𝄞 ${'x'.repeat(index % 50)}\n`,
    )
    const bytes = Buffer.from(text.join(''))
    let capture = await openCapture({ redactor })
    for (let at = 0, round = 0; at < bytes.length; round += 1) {
      // Borders anywhere, also in a character and in the secret.
      const size = 1500 + ((round * 613) % 7000)
      await print('o', bytes.subarray(at, at + size))
      await print('e', `round ${round}\n`)
      at += size
      if (round % 3 !== 2) continue
      if (round % 2 === 0) await new Promise(resolve => setImmediate(resolve))
      await capture.abandon()
      capture = await openCapture({ redactor, resume: true })
    }
    const summary = await capture.finish()
    expect(summary).toMatchObject({ truncated: false })
    expect(await told('stdout')).toBe(bytes.toString().replaceAll(secret, '***'))
    const all = await entries()
    expect(all.map(({ seq }) => seq)).toEqual(all.map((_, index) => index + 1))
    expect((await stored()).toString()).toBe(all.map(entry => entry.text).join(''))
    expect(summary.lines).toBe(4000 + (await told('stderr')).trimEnd().split('\n').length)
  })

  it('cuts off what was written and never got to Redis', async () => {
    const first = await openCapture()
    await print('o', 'told\n')
    while ((await entries()).length === 0) await new Promise(resolve => setImmediate(resolve))
    await first.abandon()
    // As if it had died between the disk and Redis.
    await appendFile(join(folder, 'log'), 'not told\n')
    await print('o', 'not told\n')
    const second = await openCapture({ resume: true })
    await second.finish()
    expect((await stored()).toString()).toBe('told\nnot told\n')
    expect(await told('stdout')).toBe('told\nnot told\n')
  })

  it.each([0, 1, 2, 3])(
    'and cut is told to its end, %i entries before which the other worker died',
    async missing => {
      const limitBytes = 256 * 1024
      const text = Array.from({ length: 60_000 }, (_, index) => `${index} ö\n`).join('')
      const first = await openCapture({ limitBytes })
      await print('o', text)
      const whole = await first.finish()
      const before = await entries()
      await forgetLast(missing)
      const second = await openCapture({ limitBytes, resume: true })
      expect(await second.finish()).toEqual(whole)
      const after = await entries()
      expect(after.map(entry => entry.text).join('')).toBe(before.map(entry => entry.text).join(''))
      expect(after.map(({ seq }) => seq)).toEqual(after.map((_, index) => index + 1))
      expect((await stored()).toString()).toBe(after.map(entry => entry.text).join(''))
      expect((await stored()).length).toBeLessThanOrEqual(limitBytes)
    },
  )

  it('and never told anything of begins from the start', async () => {
    const first = await openCapture()
    await first.abandon()
    await writeFile(join(folder, 'log.index'), '')
    const second = await openCapture({ resume: true })
    await print('o', 'all of it\n')
    await second.finish()
    expect(await told('stdout')).toBe('all of it\n')
  })

  it('is refused when its file does not go as far as Redis', async () => {
    const first = await openCapture()
    await print('o', 'told\n')
    while ((await entries()).length === 0) await new Promise(resolve => setImmediate(resolve))
    await first.abandon()
    await writeFile(join(folder, 'log'), '')
    await expect(openCapture({ resume: true })).rejects.toThrow(/ends before the one in Redis/)
  })
})
