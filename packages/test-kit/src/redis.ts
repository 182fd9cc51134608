import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { REDIS_PREFIX } from '@agirunner/contracts'
import { Redis } from 'ioredis'

export interface TestRedis {
  readonly url: string
  /** Ends it if it was started for the test; one that was there stays. */
  stop(): Promise<void>
}

/** A Redis of a test's own, which the test may take away and bring back. */
export interface PrivateRedis extends TestRedis {
  /** Ends it as a crash would; every write that was answered is kept. */
  kill(): Promise<void>
  /** Starts it again at the same address, with what it held. */
  resume(): Promise<void>
}

/** The Redis at REDIS_URL, as `npm test` provides it, else a private one. Use a queue of your own: others share it. */
export async function startRedis(): Promise<TestRedis> {
  const url = process.env.REDIS_URL
  return url ? { url, stop: async () => undefined } : await startPrivateRedis()
}

/** Starts the `redis-server` of the PATH on a free port of 127.0.0.1. */
export async function startPrivateRedis(): Promise<PrivateRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'agirunner-redis-'))
  const port = await freePort()
  let child: ChildProcess | null = await launch(port, folder)
  const kill = async () => {
    const ending = child
    child = null
    if (!ending) return
    const exited = once(ending, 'exit')
    ending.kill('SIGKILL')
    await exited
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    kill,
    resume: async () => {
      child ??= await launch(port, folder)
    },
    stop: async () => {
      await kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** @throws Error with the server's own words when it ends before it is ready */
async function launch(port: number, folder: string): Promise<ChildProcess> {
  const place = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '']
  const durable = ['--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction']
  const child = spawn('redis-server', [...place, ...durable], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child, 'spawn')
  let said = ''
  for await (const chunk of child.stdout) {
    said += String(chunk)
    if (!said.includes('Ready to accept connections')) continue
    return child
  }
  throw new Error(`redis-server ended before it was ready:\n${said}`)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** A queue's name that nobody else uses. */
export function uniqueQueue(prefix = 'test'): string {
  return `${prefix}-${randomBytes(6).toString('hex')}`
}

/** Deletes every key of a queue, BullMQ's own included, so that a test leaves nothing in a shared Redis. */
export async function removeQueue(redisUrl: string, queue: string): Promise<void> {
  const redis = new Redis(redisUrl)
  try {
    for (const pattern of [`${REDIS_PREFIX}:${queue}:*`, `${REDIS_PREFIX}:rt:${queue}:*`]) {
      for await (const keys of redis.scanStream({ match: pattern, count: 500 }) as AsyncIterable<string[]>) {
        if (keys.length > 0) await redis.unlink(...keys)
      }
    }
  } finally {
    redis.disconnect()
  }
}
