import { open } from 'node:fs/promises'
import { Writable } from 'node:stream'
import { callbackify } from 'node:util'
import { connectEngine } from '@agirunner/test-kit'
import { Redis } from 'ioredis'
import { containerSpec } from './container-spec.js'

/** What the child is told, as JSON in its one argument. */
export interface StoringJob {
  readonly dockerHost: string
  readonly image: string
  readonly script: string
  readonly redisUrl: string
  /** The Redis stream; its last entry has the field `end`. */
  readonly key: string
  readonly file: string
}

/** As much as the runtime lets wait, and as large entries as it makes. */
const PENDING_BYTES = 512 * 1024
const ENTRY_BYTES = 64 * 1024

/**
 * The program of the contender that attaches and stores: runs a container, and has what it prints in a file and in a
 * Redis stream, as fast as it can be done without looking at a byte of it. Prints the container's id first.
 */
async function main(job: StoringJob): Promise<void> {
  const docker = connectEngine(job.dockerHost)
  const redis = new Redis(job.redisUrl)
  const file = await open(job.file, 'wx', 0o600)
  const container = await docker.createContainer(containerSpec(job.image, job.script))
  process.stdout.write(`${container.id}\n`)
  const stream = await container.attach({ stream: true, stdout: true, stderr: true })
  const sink = storing(async batch => {
    const entries = redis.pipeline()
    for (let at = 0; at < batch.length; at += ENTRY_BYTES)
      entries.xadd(job.key, '*', 't', batch.subarray(at, at + ENTRY_BYTES))
    await Promise.all([file.write(batch), entries.exec()])
  })
  container.modem.demuxStream(stream, sink, sink)
  stream.on('end', () => sink.end())
  await container.start()
  await new Promise<void>((resolve, reject) => sink.on('finish', resolve).on('error', reject))
  await file.sync()
  await file.close()
  await redis.xadd(job.key, '*', 'end', '1')
  redis.disconnect()
}

/** Batches grow by themselves: what comes while one is stored is the next. */
function storing(store: (batch: Buffer) => Promise<unknown>): Writable {
  const stored = callbackify(store)
  return new Writable({
    highWaterMark: PENDING_BYTES,
    write: (bytes: Buffer, _, done) => stored(bytes, done),
    writev: (chunks, done) => stored(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)), done),
  })
}

await main(JSON.parse(process.argv[2] ?? '') as StoringJob)
