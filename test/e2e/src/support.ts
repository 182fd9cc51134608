import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TaskResult } from '@agirunner/contracts'
import { createProducer, type Producer } from '@agirunner/producer'
import {
  createRepository,
  eventually,
  expectNoLeaks,
  type GitServer,
  type Repository,
  removeQueue,
  serveGit,
  startRedis,
  startWorker,
  type TestRedis,
  type TestWorker,
  uniqueQueue,
} from '@agirunner/test-kit'

/** One queue with what belongs to it: Redis, a git server with a repository, a data folder, a producer, workers. */
export interface World {
  readonly redis: TestRedis
  readonly queue: string
  readonly dataDir: string
  /** A folder that tasks may use when AGIRUNNER_HOST_ROOTS names it; `app` in it holds `a.txt`. */
  readonly hostRoot: string
  readonly server: GitServer
  readonly repository: Repository
  readonly repoUrl: string
  readonly producer: Producer
  /** @param by a command that starts the worker's own and becomes it */
  startWorker(env?: Record<string, string>, by?: readonly string[]): Promise<TestWorker>
  /** Ends everything and fails when anything was left. */
  close(): Promise<void>
}

/** A repository that only names things: a submodule, and a file whose content is in git-LFS. */
async function createOutward(root: string): Promise<void> {
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 12345\n`
  await createRepository({
    root,
    name: 'outward',
    build: async builder => {
      await builder.write({ 'big.bin': pointer })
      await builder.commit('first')
      await builder.git(['update-index', '--add', '--cacheinfo', `160000,${'1'.repeat(40)},libs/sub`])
      await builder.git(['commit', '-qm', 'second'])
    },
  })
}

export async function createWorld(): Promise<World> {
  const redis = await startRedis()
  const queue = uniqueQueue()
  const root = mkdtempSync(join(tmpdir(), 'agirunner-e2e-'))
  const dataDir = join(root, 'data')
  const hostRoot = join(root, 'host')
  mkdirSync(join(hostRoot, 'app'), { recursive: true })
  writeFileSync(join(hostRoot, 'app/a.txt'), 'a\n')
  const repository = await createRepository({
    root,
    name: 'demo.git',
    files: {
      'README.md': '# Demo\n',
      'src/main.sh': { content: '#!/bin/sh\necho main\n', mode: 0o755 },
      'src/lib.txt': 'one\ntwo\nthree\n',
      'bin/blob.bin': Buffer.from([0, 1, 2, 255, 254, 0, 10]),
      link: { symlink: 'README.md' },
      'old/a.txt': 'a\n',
      'old/b.txt': 'b\n',
    },
  })
  await createOutward(root)
  const server = await serveGit({ root })
  const producer = createProducer({ redis: redis.url, queue })
  const workers: TestWorker[] = []
  return {
    redis,
    queue,
    dataDir,
    hostRoot,
    server,
    repository,
    repoUrl: `${server.url}/demo.git`,
    producer,
    startWorker: async (env = {}, by = []) => {
      const worker = await startWorker({
        redisUrl: redis.url,
        queue,
        dataDir,
        by,
        env: { AGIRUNNER_GIT_ALLOW_PRIVATE: 'yes', AGIRUNNER_CONCURRENCY: '2', ...env },
      })
      workers.push(worker)
      return worker
    },
    close: async () => {
      await Promise.all(workers.map(worker => worker.stop()))
      for (const worker of workers)
        await expectNoLeaks({ dataDir, labels: { 'agirunner.worker': worker.id } })
      await producer.close()
      await server.close()
      await removeQueue(redis.url, queue)
      await redis.stop()
      rmSync(root, { recursive: true, force: true })
    },
  }
}

/**
 * Ends a worker as a crash does, in a way that no other can go on with its tasks: what it noted of them is lost too.
 */
export async function killForGood(worker: TestWorker, dataDir: string): Promise<void> {
  worker.kill('SIGKILL')
  await worker.exited
  const slots = join(dataDir, 'slots')
  for (const slot of readdirSync(slots)) rmSync(join(slots, slot, 'claim.json'), { force: true })
}

/** Waits until a worker says, after that task's container had started, that nothing more is to be parked. */
export async function untilParked(
  { producer }: Pick<World, 'producer'>,
  { finishedAt, timings }: TaskResult,
): Promise<void> {
  const { runMs, bootstrapMs, captureMs, reportMs } = timings
  const sinceStart = (runMs ?? 0) + (bootstrapMs ?? 0) + (captureMs ?? 0) + (reportMs ?? 0)
  const isSettled = async () => {
    const [worker] = await producer.workers()
    return Date.parse(worker?.at ?? '') > Date.parse(finishedAt) - sinceStart && !worker?.parking?.filling
  }
  await eventually(isSettled, { what: 'all that is to be parked', within: 20_000 })
}

export interface Logged {
  readonly stdout: string
  readonly stderr: string
  readonly steps: readonly (string | null)[]
}

/** Everything that a finished task has printed, by stream. */
export async function readLogs(producer: Producer, taskId: string): Promise<Logged> {
  const logged = { stdout: '', stderr: '', steps: [] as (string | null)[] }
  for await (const entry of producer.logs(taskId, { follow: true })) {
    logged[entry.stream] += entry.text
    if (!logged.steps.includes(entry.step)) logged.steps.push(entry.step)
  }
  return logged
}

let tasks = 0
/** A taskId that no other test and no other run has. */
export function newTaskId(prefix = 't'): string {
  tasks += 1
  return `${prefix}-${process.pid}-${Date.now().toString(36)}-${tasks}`
}

/** An image with nothing in it: no shell to run a gate. */
export function importEmptyImage(): { name: string; remove(): void } {
  tasks += 1
  const name = `agirunner-test/empty-${process.pid}-${tasks}:1`
  const docker = (args: string[], input?: Buffer) =>
    execFileSync('docker', args, { input, stdio: ['pipe', 'pipe', 'pipe'] })
  docker(['import', '-', name], Buffer.alloc(10_240))
  return { name, remove: () => docker(['rmi', '-f', name]) }
}
