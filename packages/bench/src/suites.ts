import { join } from 'node:path'
import { ensureS3Server } from '@agirunner/setup'
import { startS3 } from '@agirunner/test-kit'
import { measureArtifacts, renderArtifacts } from './artifacts.js'
import { benchBurst } from './burst.js'
import { measureCaptures, renderCaptures } from './capture.js'
import { benchEnqueue } from './enqueue.js'
import { benchFlat } from './flat.js'
import { measureLogs, renderLogs } from './logs.js'
import { benchMemory } from './memory.js'
import { startStation } from './stage.js'
import { benchParked, benchStart } from './start.js'
import type { Found, Plan, Stage, Suite } from './suite.js'
import { benchThroughput } from './throughput.js'
import { measureWorkspaces, renderWorkspaces } from './workspace.js'

const rounds = (most: number, seconds = Number.POSITIVE_INFINITY) => ({ most, seconds })

/** In the order in which all of them run: after `parked`, `burst` took up to twice as long as by itself. */
export const SUITES: readonly Suite[] = [
  {
    name: 'burst',
    about: 'a hundred tasks at once: when each has its first output',
    alone: rounds(1),
    together: rounds(1, 85),
    run: benchBurst,
  },
  {
    name: 'start',
    about: 'from the enqueueing to the first byte and to the result, beside peers',
    alone: rounds(20),
    together: rounds(4, 58),
    run: benchStart,
  },
  {
    name: 'parked',
    about: 'the same of tasks for which a container waits, by commit and by ref',
    alone: rounds(100),
    together: rounds(50, 42),
    run: benchParked,
  },
  {
    name: 'throughput',
    about: 'tasks a second, 1 to 16 at once, beside a loop of bare containers',
    alone: rounds(5),
    together: rounds(1, 60),
    run: benchThroughput,
  },
  {
    name: 'enqueue',
    about: 'tasks into the queue, beside BullMQ alone',
    alone: rounds(20),
    together: rounds(10, 15),
    run: benchEnqueue,
  },
  {
    name: 'memory',
    about: 'of a worker: at rest, and with 64 tasks that sleep',
    alone: rounds(1),
    together: rounds(1, 30),
    run: benchMemory,
  },
  {
    name: 'flat',
    about: 'memory of a worker as more and more tasks have run (--tasks); takes some ten minutes',
    alone: rounds(1),
    together: null,
    run: benchFlat,
  },
  {
    name: 'workspace',
    about: 'making a workspace and reading its change, by the size of the repository',
    alone: rounds(5),
    together: rounds(1, 48),
    run: benchWorkspaces,
  },
  {
    name: 'capture',
    about: 'reading a change, by its size and that of the repository',
    alone: rounds(5),
    together: rounds(1, 56),
    run: benchCaptures,
  },
  {
    name: 'logs',
    about: "reading a flood of output, and a neighbour's first output beside one",
    alone: rounds(5),
    together: rounds(1, 42),
    run: benchLogs,
  },
  {
    name: 'artifacts',
    about: 'keeping what a task leaves, on disk and in a bucket, and reading it',
    alone: rounds(2),
    together: rounds(1, 75),
    run: benchArtifacts,
  },
]

async function benchWorkspaces(stage: Stage, plan: Plan): Promise<Found> {
  const sizes = plan.brief ? [400, 2_000] : [400, 5_000, 50_000]
  const samples = await measureWorkspaces({ ...(await repositoriesOf(stage, plan)), sizes })
  return { samples, text: renderWorkspaces(samples) }
}

async function benchCaptures(stage: Stage, plan: Plan): Promise<Found> {
  const sizes = plan.brief ? [400] : [400, 50_000]
  const samples = await measureCaptures({ ...(await repositoriesOf(stage, plan)), sizes })
  return { samples, text: renderCaptures(samples) }
}

async function repositoriesOf(stage: Stage, plan: Plan) {
  const { image, folder, git, say } = stage
  const { producer } = await stage.shared()
  return { image, folder, ...git, producer, say, runs: plan.rounds.most }
}

async function benchLogs(stage: Stage, plan: Plan): Promise<Found> {
  const { image, folder, docker, dockerHost, redisUrl, say } = stage
  const { producer } = await stage.shared()
  const options = { image, folder, docker, dockerHost, redisUrl, producer, say, runs: plan.rounds.most }
  const samples = await measureLogs({ ...options, outputMiB: plan.brief ? 16 : 64 })
  return { samples, text: renderLogs(samples) }
}

async function benchArtifacts(stage: Stage, plan: Plan): Promise<Found> {
  const { image, folder, say } = stage
  await ensureS3Server({ dataDir: stage.dataDir, env: process.env, log: say })
  const s3 = await startS3()
  stage.release.push(() => s3.stop())
  const bucket = await withBucket(stage, s3)
  const producers = { disk: (await stage.shared()).producer, bucket: bucket.producer }
  const samples = await measureArtifacts({ image, folder, s3, producers, runs: plan.rounds.most, say })
  return { samples, text: renderArtifacts(samples) }
}

/** A worker that stores in a bucket. */
async function withBucket(stage: Stage, s3: Awaited<ReturnType<typeof startS3>>) {
  const { redisUrl, release, folder, dockerHost } = stage
  const url = `s3://${s3.bucket}`
  const env = {
    DOCKER_HOST: dockerHost,
    AGIRUNNER_STORAGE: url,
    AGIRUNNER_S3_ENDPOINT: s3.endpoint,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
  }
  const storage = { url, endpoint: s3.endpoint, credentials: s3 }
  return await startStation({ redisUrl, release, dataDir: join(folder, 'data-bucket'), env, storage })
}
