import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { createProducer, type Producer } from '@agirunner/producer'
import { readExpiryKey } from '@agirunner/storage'
import { eventually, findSecret, startS3, type TestS3, type TestWorker } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { folderPlaces, type Place, processPlaces, redisPlaces } from './places.js'
import { createWorld, newTaskId, type World } from './support.js'

const COMMAND = fileURLToPath(new URL('../../../packages/cli/bin/agirunner.js', import.meta.url))
const MIB = 1024 * 1024

let world: World
let s3: TestS3
let producer: Producer
beforeAll(async () => {
  world = await createWorld()
  s3 = await startS3()
  producer = reader()
})
afterAll(async () => {
  await producer.close()
  await s3.stop()
  await world.close()
})

function reader(other: { url?: string; endpoint?: string } = {}): Producer {
  const storage = { url: `s3://${s3.bucket}/runs`, endpoint: s3.endpoint, credentials: s3, ...other }
  return createProducer({ redis: world.redis.url, queue: world.queue, storage })
}

const bucketEnv = (other: Record<string, string> = {}) => ({
  AGIRUNNER_STORAGE: `s3://${s3.bucket}/runs`,
  AGIRUNNER_S3_ENDPOINT: s3.endpoint,
  AWS_ACCESS_KEY_ID: s3.accessKeyId,
  AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
  ...other,
})

type More = Omit<TaskInput, 'taskId' | 'run'>

async function enqueue(script: string, more: More = {}): Promise<string> {
  const taskId = newTaskId('stored')
  await world.producer.enqueue({ taskId, tenantId: 'acme', run: { script }, ...more })
  return taskId
}

async function run(script: string, more: More = {}): Promise<TaskResult> {
  return await world.producer.waitForResult(await enqueue(script, more))
}

async function bytesOf(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** Its length and sum, without holding it. */
async function sumOf(stream: AsyncIterable<Buffer>): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of stream) {
    hash.update(chunk)
    bytes += chunk.length
  }
  return { bytes, sha256: hash.digest('hex') }
}

const keyOf = (uri: string) => uri.slice(`s3://${s3.bucket}/`.length)
const keysOf = async (taskId: string) => (await s3.keys()).filter(key => key.includes(`/${taskId}/`))
const staged = (taskId: string) => join(world.dataDir, 'artifacts/acme', taskId)

describe('what a task leaves, in a bucket', () => {
  let worker: TestWorker
  beforeAll(async () => {
    worker = await world.startWorker(bucketEnv())
  })
  afterAll(async () => await worker.stop())

  it('is read back byte by byte, by producer and command line', async () => {
    const script = String.raw`
      echo changed >>README.md; echo 'said so'
      head -c 12000000 /dev/urandom >../output/big.bin; sha256sum <../output/big.bin | cut -c1-64
      printf odd >"$(printf '../output/a b\n#?%%2e..é')"; : >../output/empty`
    const result = await run(script, {
      workspace: { source: { type: 'git_remote', url: world.repoUrl } },
      capture: { changes: 'commit', retention: 'days:3' },
    })
    expect(result).toMatchObject({ status: 'succeeded', skipped: [] })
    const { taskId, changes, artifacts, logs } = result
    const uris = [logs?.uri, changes?.patch?.uri, changes?.bundle?.uri, ...artifacts.map(({ uri }) => uri)]
    const folder = new RegExp(
      String.raw`^s3://${s3.bucket}/runs/acme/${taskId}/\d+-[0-9a-f]{8}/(log|changes\.(patch|bundle)|files/\d+-[\w.-]+)$`,
    )
    for (const uri of uris) expect(uri).toMatch(folder)
    expect(artifacts.map(({ path }) => path)).toEqual([
      'output/a b\n#?%2e..é',
      'output/big.bin',
      'output/empty',
    ])
    for (const { path, sha256, sizeBytes } of artifacts)
      expect(await sumOf(producer.artifact(taskId, path))).toEqual({ bytes: sizeBytes, sha256 })
    const log = (await bytesOf(producer.artifact(taskId, 'log'))).toString()
    expect(log).toMatch(/^said so\n[0-9a-f]{64}\n$/)
    expect(log).toContain(artifacts[1]?.sha256)

    const cli = (...args: string[]) =>
      spawnSync(process.execPath, [COMMAND, ...args], {
        maxBuffer: 64 * MIB,
        env: { ...process.env, REDIS_URL: world.redis.url, AGIRUNNER_QUEUE: world.queue, ...bucketEnv() },
      })
    const patch = cli('patch', taskId)
    expect(patch).toMatchObject({ status: 0, stderr: Buffer.alloc(0) })
    expect(patch.stdout.toString()).toContain('+changed')
    expect(patch.stdout.equals(await bytesOf(producer.patch(taskId)))).toBe(true)
    expect(
      createHash('sha256')
        .update(cli('artifacts', taskId, 'output/big.bin').stdout)
        .digest('hex'),
    ).toBe(artifacts[1]?.sha256)
    // On the disk nothing stays; in the bucket there is what the result names, and the marker.
    await eventually(() => !existsSync(join(staged(taskId), String(result.attempts[0]?.fence))), {
      what: 'the end of the staging folder',
    })
    const keys = await keysOf(taskId)
    const markers = keys.flatMap(key => readExpiryKey(key.slice('runs/'.length)) ?? [])
    expect(keys.filter(key => !key.includes('_expiries'))).toEqual(
      uris.map(uri => keyOf(uri ?? '')).toSorted(),
    )
    expect(markers).toMatchObject([{ unless: 'nothing', tenantId: 'acme', taskId }])
    const days = ((markers[0]?.at.getTime() ?? 0) - Date.now()) / 86_400_000
    expect(days).toBeGreaterThan(2.99)
    expect(days).toBeLessThanOrEqual(3)
  }, 60_000)

  it('is read from the configured bucket and from no other', async () => {
    const { taskId } = await run('echo x >../output/x')
    const others = [
      { url: `s3://${s3.bucket}/elsewhere` },
      { url: 's3://other-bucket/runs' },
      { url: 'file' },
    ]
    for (const other of others) {
      const stranger = reader(other)
      await expect(bytesOf(stranger.artifact(taskId, 'output/x'))).rejects.toMatchObject({
        code: 'artifact.unavailable',
        reason: 'elsewhere',
        message: expect.stringMatching(/it is stored at s3:\/\/.*; name that bucket/),
      })
      await stranger.close()
    }
    expect((await bytesOf(producer.artifact(taskId, 'output/x'))).toString()).toBe('x\n')
  }, 60_000)

  it('that is damaged or gone is told as that', async () => {
    const { taskId, artifacts } = await run('echo x >../output/x; echo y >../output/y')
    await s3.write(keyOf(artifacts[0]?.uri ?? ''), Buffer.from('z\n'))
    await s3.delete(keyOf(artifacts[1]?.uri ?? ''))
    await expect(bytesOf(producer.artifact(taskId, 'output/x'))).rejects.toMatchObject({ reason: 'damaged' })
    await expect(bytesOf(producer.artifact(taskId, 'output/y'))).rejects.toMatchObject({
      reason: 'elsewhere',
      message: expect.stringMatching(/NoSuchKey.*retention/),
    })
  }, 60_000)

  it('can be taken up by a later task of the tenant, and by no other tenant', async () => {
    const first = await run('printf "from the first" >../output/y')
    const artifacts = [
      { taskId: first.taskId, path: 'output/y', to: 'repo/in.txt' },
      { taskId: first.taskId, path: 'log', to: 'repo/log.txt' },
    ]
    const more: More = { workspace: { source: { type: 'workspace_artifacts', artifacts } } }
    const second = await run('cp in.txt ../output/again', more)
    expect((await bytesOf(producer.artifact(second.taskId, 'output/again'))).toString()).toBe(
      'from the first',
    )
    const stranger = newTaskId('stored')
    await world.producer.enqueue({ taskId: stranger, tenantId: 'other', run: { script: 'true' }, ...more })
    expect((await world.producer.waitForResult(stranger)).failure?.code).toBe('workspace.not_found')
    // What changed meanwhile is noticed.
    await s3.write(keyOf(first.artifacts[0]?.uri ?? ''), Buffer.from('from the third'))
    expect((await run('true', more)).failure?.code).toBe('workspace.remote_broken')
    await s3.delete(keyOf(first.artifacts[0]?.uri ?? ''))
    expect((await run('true', more)).failure?.code).toBe('workspace.not_found')
  }, 60_000)

  it('of 200 MB goes through a worker that does not grow with it', async () => {
    const warm = await run('head -c 20000000 /dev/zero >../output/warm')
    expect(warm.status).toBe('succeeded')
    const before = residentBytes(worker.pid)
    const taskId = await enqueue('head -c 200000000 /dev/urandom >../output/huge')
    let peak = 0
    const watch = setInterval(() => {
      peak = Math.max(peak, residentBytes(worker.pid))
    }, 20)
    const result = await world.producer.waitForResult(taskId)
    clearInterval(watch)
    expect(result).toMatchObject({ status: 'succeeded', artifacts: [{ sizeBytes: 200_000_000 }] })
    expect(await sumOf(producer.artifact(taskId, 'output/huge'))).toEqual({
      bytes: 200_000_000,
      sha256: result.artifacts[0]?.sha256,
    })
    expect(peak - before).toBeLessThan(100 * MIB)
  }, 120_000)

  it('holds the keys of the bucket nowhere', async () => {
    const result = await run('env; cat /proc/[0-9]*/environ; echo x >../output/x')
    const events: string[] = []
    for await (const event of world.producer.events(result.taskId)) events.push(JSON.stringify(event))
    const places: Place[] = [
      ['the result', JSON.stringify(result)],
      ['the events', events.join('\n')],
      ['the log', await bytesOf(producer.artifact(result.taskId, 'log'))],
      ["the worker's log", worker.log()],
      ...(await folderPlaces(world.dataDir)),
      ...(await redisPlaces(world.redis.url)),
      ...(await processPlaces(worker.pid, [`AWS_SECRET_ACCESS_KEY=${s3.secretAccessKey}`])),
    ]
    expect(places.length).toBeGreaterThan(20)
    const found = places.flatMap(([name, content]) =>
      findSecret(content, s3.secretAccessKey).map(form => `${name}: ${form}`),
    )
    expect(found).toEqual([])
  }, 60_000)
})

function residentBytes(pid: number): number {
  const [, kib = ''] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kib) * 1024
}

describe('a bucket that fails', () => {
  it.each([
    [
      'refuses the keys',
      { AWS_SECRET_ACCESS_KEY: 'wrong-secret-of-the-bucket' },
      /403.*SignatureDoesNotMatch/,
      /AWS_SECRET_ACCESS_KEY/,
    ],
    ['is not there', { AGIRUNNER_STORAGE: 's3://not-there' }, /NoSuchBucket/, /create the bucket/],
    [
      'can’t be reached',
      { AGIRUNNER_S3_ENDPOINT: 'http://127.0.0.1:1' },
      /ECONNREFUSED/,
      /AGIRUNNER_S3_ENDPOINT/,
    ],
  ])(
    'because it %s, is told at start and by each task',
    async (_name, env, why, hint) => {
      const worker = await world.startWorker(bucketEnv(env))
      const [alive] = (await world.producer.workers()).filter(({ id }) => id === worker.id)
      expect(alive?.capabilities?.find(({ name }) => name === 'artifact storage')).toMatchObject({
        state: 'missing',
        detail: expect.stringMatching(/tasks end with capture\.failed/),
        fix: expect.stringMatching(hint),
      })
      const result = await run('echo x >../output/x')
      expect(result).toMatchObject({
        status: 'failed',
        failure: { code: 'capture.failed', origin: 'infrastructure', retryable: true, phase: 'capture' },
        artifacts: [],
        changes: null,
        logs: null,
      })
      expect(result.failure?.message).toMatch(why)
      expect(result.failure?.hint).toMatch(hint)
      expect(await keysOf(result.taskId)).toEqual([])
      const secret = bucketEnv(env).AWS_SECRET_ACCESS_KEY
      for (const text of [JSON.stringify(result), worker.log()]) expect(findSecret(text, secret)).toEqual([])
      await worker.stop()
    },
    60_000,
  )

  it('in the middle of an upload: nothing is named, and the next attempt is whole', async () => {
    const worker = await world.startWorker(bucketEnv())
    const taskId = await enqueue('head -c 150000000 /dev/urandom >../output/huge', {
      retry: { maxAttempts: 2, backoff: { type: 'fixed', delay: 5 }, on: ['capture.failed'] },
    })
    await eventually(async () => (await s3.unfinished()).some(key => key.includes(taskId)), {
      what: 'the upload',
      within: 30_000,
    })
    await s3.kill()
    const failed = await eventually(
      async () => {
        for await (const event of world.producer.events(taskId))
          if (event.type === 'attempt.finished' && event.data.failure) return event
        return null
      },
      { what: 'the end of the attempt', within: 60_000 },
    )
    expect(failed.data.failure).toBe('capture.failed')
    await s3.resume()
    const result = await world.producer.waitForResult(taskId)
    expect(result.status).toBe('succeeded')
    expect(result.attempts.map(({ failure }) => failure?.code ?? null)).toEqual(['capture.failed', null])
    const [huge] = result.artifacts
    expect(await sumOf(producer.artifact(taskId, 'output/huge'))).toEqual({
      bytes: 150_000_000,
      sha256: huge?.sha256,
    })
    const [, fence] = new RegExp(`/acme/${taskId}/(\\d+)-`).exec(huge?.uri ?? '') ?? []
    expect(Number(fence)).toBe(result.attempts[1]?.fence)
    await worker.stop()
  }, 120_000)
})
