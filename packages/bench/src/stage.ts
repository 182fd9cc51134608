import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { StorageOptions } from '@agirunner/producer'
import { createProducer } from '@agirunner/producer'
import { setUp } from '@agirunner/setup'
import {
  connectEngine,
  createRepository,
  manyFiles,
  removeQueue,
  serveGit,
  startWorker,
  uniqueQueue,
} from '@agirunner/test-kit'
import { REPOSITORY_FILES } from './contender.js'
import { removeLeftOver } from './left-over.js'
import type { Stage, Station } from './suite.js'

/** Gets everything ready, hands it over, and ends what it started, last first. */
export async function withStage(say: Stage['say'], use: (stage: Stage) => Promise<void>): Promise<void> {
  const release: Stage['release'] = []
  try {
    await Promise.race([prepareStage(say, release).then(use), interrupted()])
  } finally {
    for (const step of release.toReversed()) await step().catch(error => say(`not ended: ${String(error)}`))
  }
}

/** Rejects when somebody ends the program, so that what it started is put away all the same. */
async function interrupted(): Promise<never> {
  const signals = (['SIGINT', 'SIGTERM'] as const).map(signal => once(process, signal).then(() => signal))
  throw new Error(`it was ended by ${await Promise.race(signals)}`)
}

async function prepareStage(say: Stage['say'], release: Stage['release']): Promise<Stage> {
  const base = await setUp({ env: process.env, log: say, needs: ['redis', 'engine', 'image'] })
  release.push(() => base.stop())
  const { redisUrl, dockerHost, image, dataDir } = base
  if (redisUrl === null || dockerHost === null || image === null)
    throw new Error('the set-up gave no Redis, engine or image')
  const folder = await temporaryFolder(dataDir, release)
  const root = join(folder, 'repositories')
  const server = await serveGit({ root })
  release.push(() => server.close())
  const docker = connectEngine(dockerHost)
  release.push(() => removeLeftOver(docker))
  const start: Stage['start'] = env =>
    startStation({
      redisUrl,
      release,
      dataDir: join(folder, 'data'),
      env: { DOCKER_HOST: dockerHost, ...env },
    })
  let shared: Promise<Station> | null = null
  return {
    image,
    dockerHost,
    redisUrl,
    dataDir,
    folder,
    release,
    say,
    start,
    docker,
    git: { root, url: server.url },
    repository: repositories(root, server.url),
    shared: () => {
      shared ??= start({})
      return shared
    },
  }
}

export interface StationOptions {
  readonly redisUrl: string
  readonly release: Stage['release']
  readonly dataDir: string
  readonly env: Readonly<Record<string, string>>
  readonly storage?: StorageOptions
}

/** A worker and its producer; stopped when it is asked for, or else at the end. */
export async function startStation(options: StationOptions): Promise<Station> {
  const { redisUrl, release, dataDir, env, storage } = options
  const queue = uniqueQueue('bench')
  const producer = createProducer({ redis: redisUrl, queue, ...(storage && { storage }) })
  const defaults = { AGIRUNNER_GIT_ALLOW_PRIVATE: 'yes', AGIRUNNER_CACHE_BYTES: '2Gi' }
  const worker = await startWorker({ redisUrl, queue, dataDir, env: { ...defaults, ...env } })
  let stopping: Promise<void> | null = null
  const end = async () => {
    await worker.stop()
    await producer.close()
    await removeQueue(redisUrl, queue)
  }
  const stop = () => {
    stopping ??= end()
    return stopping
  }
  release.push(stop)
  return { worker, producer, stop }
}

/** Below the data folder, so that the worker meets the file system that it would meet in earnest. */
async function temporaryFolder(dataDir: string, release: Stage['release']): Promise<string> {
  await mkdir(dataDir, { recursive: true })
  const folder = await mkdtemp(join(dataDir, 'bench-'))
  release.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Makes repositories when they are first asked for; each has a commit that no other has. */
function repositories(root: string, url: string): Stage['repository'] {
  const made = new Map<string, Promise<string>>()
  const make = async (name: string) => {
    const files = { ...manyFiles(REPOSITORY_FILES, 2000), 'name.txt': `${name}\n` }
    return (await createRepository({ root, name, files })).head
  }
  return async name => {
    const commit = made.get(name) ?? make(name)
    made.set(name, commit)
    return { url: `${url}/${name}.git`, commit: await commit }
  }
}
