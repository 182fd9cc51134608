import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { startRedis, type TestRedis, uniqueQueue } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url))
const started: ChildProcess[] = []
let redis: TestRedis

beforeAll(async () => {
  redis = await startRedis()
})
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL')
})
afterAll(() => redis.stop())

interface Program {
  readonly child: ChildProcess
  /** All that it writes, once it has ended. */
  readonly stdout: Promise<string>
  readonly stderr: Promise<string>
}

function start(env: Record<string, string>, ipc: 'ipc' | 'ignore' = 'ipc'): Program {
  const child = spawn(process.execPath, [MAIN], {
    env: { REDIS_URL: redis.url, AGIRUNNER_QUEUE: uniqueQueue('board'), AGIRUNNER_BOARD_PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe', ipc],
  })
  started.push(child)
  const read = (stream: Readable | null) => text(stream ?? Readable.from([]))
  return { child, stdout: read(child.stdout), stderr: read(child.stderr) }
}

const login = (password: string) => ({
  authorization: `Basic ${Buffer.from(`operator:${password}`).toString('base64')}`,
})

describe('the board as a program', () => {
  it('makes a password, tells it to its parent only, and ends when the parent goes', async () => {
    const { child, stdout } = start({})
    const [ready] = (await once(child, 'message')) as [
      { type: string; url: string; user: string; password: string },
    ]
    expect(ready).toEqual({
      type: 'ready',
      url: expect.any(String),
      user: 'operator',
      password: expect.stringMatching(/^[\w-]{24}$/),
    })
    expect((await fetch(`${ready.url}/queues`, { headers: login(ready.password) })).status).toBe(200)
    child.disconnect()
    // Not 'close', which Node does not emit after a disconnect from this side.
    expect(await once(child, 'exit')).toEqual([0, null])
    expect(await stdout).not.toContain(ready.password)
  })

  it('does not repeat a password that it was given', async () => {
    const { child } = start({ AGIRUNNER_BOARD_PASSWORD: 'given by the operator' })
    const [ready] = (await once(child, 'message')) as [{ url: string; password: string | null }]
    expect(ready.password).toBeNull()
    expect((await fetch(`${ready.url}/queues`, { headers: login('given by the operator') })).status).toBe(200)
  })

  it('prints its password once where nobody listens, and ends on SIGTERM', async () => {
    const { child, stdout } = start({}, 'ignore')
    await once(child.stdout ?? child, 'data')
    child.kill('SIGTERM')
    expect(await once(child, 'close')).toEqual([0, null])
    expect(await stdout).toMatch(/^board http:\/\/127\.0\.0\.1:\d+ user operator password [\w-]{24}\n$/)
  })

  it.each([
    [2, { REDIS_URL: 'nonsense' }, /REDIS_URL: must start with redis/],
    [5, { REDIS_URL: 'redis://:hunter2@127.0.0.1:1' }, /Redis at 127\.0\.0\.1:1 is not usable/],
  ])('ends with %i and a reason when it has no Redis', async (status, env, reason) => {
    const { child, stderr } = start(env)
    expect(await once(child, 'close')).toEqual([status, null])
    expect(await stderr).toMatch(reason)
    expect(await stderr).not.toContain('hunter2')
  })
})
