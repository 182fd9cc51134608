import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Producer } from '@agirunner/producer'
import { connectEngine } from '@agirunner/test-kit'
import type Docker from 'dockerode'
import { Redis } from 'ioredis'
import { containerSpec } from './container-spec.js'
import { LIMITS } from './contender.js'
import type { StoringJob } from './storing-attach.js'

/** A command that runs, and whose output is read while it does. */
export interface LogRun {
  /** When the first byte came. */
  readonly first: Promise<void>
  /** How many bytes came, once nothing more comes. */
  readonly read: Promise<number>
  /** When all of it is where it stays; null for a reader that stores nothing. */
  readonly stored: Promise<unknown> | null
  /** Ends the command, and gives back what it held. */
  end(): Promise<void>
}

export interface LogReader {
  readonly name: string
  /** @param seconds it may take at most, where that can be said */
  start(script: string, seconds: number): Promise<LogRun>
}

/** The runtime: a follower by Redis, and the log as an artifact. */
export function readsByRuntime(producer: Producer, image: string): LogReader {
  let tasks = 0
  return {
    name: 'runtime',
    start: async (script, seconds) => {
      tasks += 1
      const taskId = `log-${tasks}`
      await producer.enqueue({
        taskId,
        workspace: { source: { type: 'empty' } },
        environment: { image, resources: { cpu: LIMITS.cpu, memory: LIMITS.memoryBytes } },
        run: { script },
        limits: { timeout: seconds, logBytes: '900Mi', grace: 0 },
        capture: { changes: 'none' },
      })
      const count = newCount()
      const read = (async () => {
        for await (const { text } of producer.logs(taskId, { follow: true }))
          count.add(Buffer.byteLength(text))
        return count.bytes
      })()
      read.catch(() => undefined)
      const stored = producer.waitForResult(taskId)
      const end = async () => {
        await producer.cancel(taskId)
        await Promise.all([stored, read])
      }
      return { first: count.first, read, stored, end }
    },
  }
}

/** The peer: `docker logs -f` of a container with the engine's default log driver. */
export function readsByDockerLogs(docker: Docker, dockerHost: string, image: string): LogReader {
  return {
    name: 'docker logs -f',
    start: async script => {
      const container = await docker.createContainer(
        containerSpec(image, script, { Type: 'json-file', Config: {} }),
      )
      await container.start()
      const child = spawn('docker', ['logs', '-f', container.id], {
        env: { ...process.env, DOCKER_HOST: dockerHost },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const count = newCount()
      child.stdout.on('data', (bytes: Buffer) => count.add(bytes.length))
      const read = once(child, 'close').then(() => count.bytes)
      const end = async () => {
        await container.remove({ force: true })
        await read
      }
      return { first: count.first, read, stored: null, end }
    },
  }
}

/**
 * The same work as the runtime's, by hand and without a look at the bytes: a process that attaches and puts all of it
 * into a file and a Redis stream, and a reader of that stream.
 *
 * @param folder for the files
 */
export function readsByStoringAttach(
  options: Omit<StoringJob, 'script' | 'key' | 'file'>,
  folder: string,
): LogReader {
  let runs = 0
  return {
    name: 'attach + store',
    start: async script => {
      runs += 1
      const job = {
        ...options,
        script,
        key: `bench:log:${process.pid}:${runs}`,
        file: join(folder, `attached-${runs}`),
      }
      const redis = new Redis(options.redisUrl)
      const program = fileURLToPath(new URL('storing-attach.js', import.meta.url))
      const child = spawn(process.execPath, [program, JSON.stringify(job)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const stored = once(child, 'close')
      const [id] = (await once(child.stdout, 'data')) as [Buffer]
      const count = newCount()
      const read = readStream(redis, job.key, count)
      const end = async () => {
        const container = connectEngine(options.dockerHost).getContainer(id.toString().trim())
        await container.remove({ force: true })
        await Promise.all([stored, read])
        await redis.unlink(job.key)
        redis.disconnect()
        await rm(job.file)
      }
      return { first: count.first, read, stored, end }
    },
  }
}

async function readStream(redis: Redis, key: string, count: ReturnType<typeof newCount>): Promise<number> {
  for (let last = '0'; ; ) {
    const reply = await redis.xread('COUNT', 128, 'BLOCK', 5000, 'STREAMS', key, last)
    for (const [id, [name, text = '']] of (reply?.[0]?.[1] ?? []) as [string, string[]][]) {
      if (name === 'end') return count.bytes
      count.add(Buffer.byteLength(text))
      last = id
    }
  }
}

/** The floor of what goes through an engine: attached before the start, with no log kept anywhere. */
export function readsByAttach(docker: Docker, image: string): LogReader {
  return {
    name: 'attach',
    start: async script => {
      const container = await docker.createContainer(containerSpec(image, script))
      const stream = await container.attach({ stream: true, stdout: true, stderr: true })
      const count = newCount()
      const sink = new Writable({
        write: (bytes: Buffer, _, done) => {
          count.add(bytes.length)
          done()
        },
      })
      container.modem.demuxStream(stream, sink, sink)
      const read = once(stream, 'end').then(() => count.bytes)
      await container.start()
      const end = async () => {
        await container.remove({ force: true })
        await read
      }
      return { first: count.first, read, stored: null, end }
    },
  }
}

function newCount() {
  let came = () => {}
  const first = new Promise<void>(resolve => {
    came = resolve
  })
  return {
    first,
    bytes: 0,
    add(bytes: number) {
      this.bytes += bytes
      came()
    },
  }
}
