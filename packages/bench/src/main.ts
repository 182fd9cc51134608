import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createProducer } from '@agirunner/producer'
import { ensureS3Server, setUp } from '@agirunner/setup'
import {
  connectEngine,
  createRepository,
  manyFiles,
  removeQueue,
  serveGit,
  startS3,
  startWorker,
  uniqueQueue,
} from '@agirunner/test-kit'
import { type ArtifactOptions, measureArtifacts, renderArtifacts } from './artifacts.js'
import { bareContainer } from './bare.js'
import { measureCaptures, renderCaptures } from './capture.js'
import { cloneAndRun } from './clone-and-run.js'
import { type Contender, REPOSITORY_FILES } from './contender.js'
import { type LogBenchOptions, measureLogs, renderLogs } from './logs.js'
import { measure } from './measure.js'
import { runtime } from './runtime.js'
import { summarize } from './statistics.js'
import { renderTable } from './table.js'
import { measureWorkspaces, renderWorkspaces, type WorkspaceOptions } from './workspace.js'

const HELP = `usage: pnpm bench [start|workspace|capture|logs|artifacts] [--runs N] [--json FILE]
  start        from the enqueueing to the first byte and to the result
  workspace    making a workspace and reading its change, by the size of the repository
  capture      reading a change, by its size and that of the repository
  logs         reading a flood of output, and a neighbour's first output beside one
  artifacts    keeping what a task leaves, on disk and in a bucket, and reading it
  --runs N     rounds that count; one more warms up (default 20; of all but start at most 5, of artifacts 2)
  --json FILE  also write every sample there
`

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { runs: { type: 'string', default: '20' }, json: { type: 'string' }, help: { type: 'boolean' } },
    allowPositionals: true,
  })
  const suites = positionals.length > 0 ? positionals : SUITES
  const runs = Number(values.runs)
  if (values.help) return void process.stdout.write(HELP)
  if (!Number.isInteger(runs) || runs < 1)
    throw new Error(`--runs ${values.runs}; it must be a whole number above 0`)
  const unknown = suites.find(suite => !SUITES.includes(suite))
  if (unknown !== undefined) throw new Error(`${unknown} is no benchmark; there are ${SUITES.join(', ')}`)
  await withMachine(async machine => {
    const found: Record<string, unknown> = { ...machine.facts, runs }
    if (suites.includes('start')) found.report = await benchStart(machine, runs)
    if (suites.includes('workspace')) found.workspaces = await benchWorkspaces(machine, runs)
    if (suites.includes('logs')) found.logs = await benchLogs(machine, runs)
    if (suites.includes('capture')) found.captures = await benchCaptures(machine, runs)
    if (suites.includes('artifacts')) found.artifacts = await benchArtifacts(machine, runs)
    if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(found, null, 2)}\n`)
  })
}

const SUITES: readonly string[] = ['start', 'workspace', 'capture', 'logs', 'artifacts']

async function benchStart({ contenders, floors }: Machine, runs: number) {
  const onRound = (round: number) => say(`round ${round} of ${runs}`)
  const report = summarize(await measure({ contenders, runs, onRound }))
  process.stdout.write(`\n${renderTable(report, floors)}\n`)
  return report
}

const WORKSPACE_SIZES = [400, 5_000, 50_000]
const MAX_LONG_RUNS = 5

async function benchWorkspaces({ workspaces }: Machine, runs: number) {
  const rounds = Math.min(runs, MAX_LONG_RUNS)
  const reports = await measureWorkspaces({ ...workspaces, sizes: WORKSPACE_SIZES, runs: rounds, say })
  process.stdout.write(`\n${renderWorkspaces(reports)}\n`)
  return reports
}

async function benchLogs({ logs }: Machine, runs: number) {
  const report = await measureLogs({ ...logs, runs: Math.min(runs, MAX_LONG_RUNS), say })
  process.stdout.write(`\n${renderLogs(report)}\n`)
  return report
}

const MAX_ARTIFACT_RUNS = 2

async function benchArtifacts({ artifacts }: Machine, runs: number) {
  const rounds = Math.min(runs, MAX_ARTIFACT_RUNS)
  const reports = await measureArtifacts({ ...(await artifacts()), runs: rounds, say })
  process.stdout.write(`\n${renderArtifacts(reports)}\n`)
  return reports
}

const CAPTURE_SIZES = [400, 50_000]

async function benchCaptures({ workspaces }: Machine, runs: number) {
  const rounds = Math.min(runs, MAX_LONG_RUNS)
  const reports = await measureCaptures({ ...workspaces, sizes: CAPTURE_SIZES, runs: rounds, say })
  process.stdout.write(`\n${renderCaptures(reports)}\n`)
  return reports
}

interface Machine {
  readonly contenders: readonly Contender[]
  /** Names of those that the others are held against. */
  readonly floors: readonly string[]
  /** What the figures depend on. */
  readonly facts: Readonly<Record<string, unknown>>
  readonly workspaces: Omit<WorkspaceOptions, 'sizes' | 'runs' | 'say'>
  readonly logs: Omit<LogBenchOptions, 'runs' | 'say'>
  /** Starts a server for a bucket, and a worker that stores there. */
  readonly artifacts: () => Promise<Omit<ArtifactOptions, 'runs' | 'say'>>
}

/** Gets everything ready, hands it over, and ends what it started, last first. */
async function withMachine(use: (machine: Machine) => Promise<void>): Promise<void> {
  const release: (() => Promise<unknown>)[] = []
  try {
    await use(await prepareMachine(release))
  } finally {
    for (const step of release.toReversed()) await step().catch(error => say(`not ended: ${String(error)}`))
  }
}

async function prepareMachine(release: (() => Promise<unknown>)[]): Promise<Machine> {
  const base = await setUp({ env: process.env, log: say, needs: ['redis', 'engine', 'image'] })
  release.push(() => base.stop())
  const { redisUrl, dockerHost, image } = base
  if (redisUrl === null || dockerHost === null || image === null)
    throw new Error('the set-up gave no Redis, engine or image')
  const folder = await temporaryFolder(base.dataDir, release)
  const root = join(folder, 'repositories')
  const server = await serveGit({ root })
  release.push(() => server.close())
  const urlOf = repositories(root, server.url)

  const queue = uniqueQueue('bench')
  release.push(() => removeQueue(redisUrl, queue))
  const producer = createProducer({ redis: redisUrl, queue })
  release.push(() => producer.close())
  const worker = await startWorker({
    redisUrl,
    queue,
    dataDir: join(folder, 'data'),
    env: { DOCKER_HOST: dockerHost, AGIRUNNER_GIT_ALLOW_PRIVATE: 'yes', AGIRUNNER_CACHE_BYTES: '2Gi' },
  })
  release.push(() => worker.stop())

  const docker = connectEngine(dockerHost)
  const peer = cloneAndRun({ image, dockerHost, folder, urlOf: round => urlOf(`peer-${round}`) })
  const bare = bareContainer(docker, image)
  const cold = runtime({ name: 'runtime, cold', producer, image, urlOf: round => urlOf(`cold-${round}`) })
  const warm = runtime({ name: 'runtime, warm', producer, image, urlOf: () => urlOf('warm') })
  const { ServerVersion: engine } = (await docker.info()) as { ServerVersion: string }
  return {
    workspaces: { producer, image, root, url: server.url, folder },
    logs: { producer, docker, dockerHost, image, redisUrl, folder },
    artifacts: async () => {
      await ensureS3Server({ dataDir: base.dataDir, env: process.env, log: say })
      const { s3, producer: bucket } = await withBucket({ redisUrl, dockerHost, folder }, release)
      return { image, folder, s3, producers: { disk: producer, bucket } }
    },
    contenders: [cold, warm, peer, bare],
    floors: [peer.name, bare.name],
    facts: {
      at: new Date().toISOString(),
      node: process.version,
      engine,
      cpus: cpus().length,
      strategy: worker.strategy,
      files: REPOSITORY_FILES,
    },
  }
}

/** A worker that stores in a bucket, on a queue of its own. */
async function withBucket(
  { redisUrl, dockerHost, folder }: { redisUrl: string; dockerHost: string; folder: string },
  release: (() => Promise<unknown>)[],
) {
  const s3 = await startS3()
  release.push(() => s3.stop())
  const queue = uniqueQueue('bench')
  release.push(() => removeQueue(redisUrl, queue))
  const url = `s3://${s3.bucket}`
  const storage = { url, endpoint: s3.endpoint, credentials: s3 }
  const producer = createProducer({ redis: redisUrl, queue, storage })
  release.push(() => producer.close())
  const worker = await startWorker({
    redisUrl,
    queue,
    dataDir: join(folder, 'data-bucket'),
    env: {
      DOCKER_HOST: dockerHost,
      AGIRUNNER_STORAGE: url,
      AGIRUNNER_S3_ENDPOINT: s3.endpoint,
      AWS_ACCESS_KEY_ID: s3.accessKeyId,
      AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    },
  })
  release.push(() => worker.stop())
  return { s3, producer }
}

/** Below the data folder, so that the worker meets the file system that it would meet in earnest. */
async function temporaryFolder(dataDir: string, release: (() => Promise<unknown>)[]): Promise<string> {
  await mkdir(dataDir, { recursive: true })
  const folder = await mkdtemp(join(dataDir, 'bench-'))
  release.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Makes repositories when they are first asked for; each has a commit that no other has. */
function repositories(root: string, url: string): (name: string) => Promise<string> {
  const made = new Set<string>()
  return async name => {
    if (!made.has(name)) {
      made.add(name)
      await createRepository({
        root,
        name,
        files: { ...manyFiles(REPOSITORY_FILES, 2000), 'name.txt': `${name}\n` },
      })
    }
    return `${url}/${name}.git`
  }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

main().catch((error: unknown) => {
  process.stderr.write(`error: the benchmark did not end; ${String(error)}\n`)
  process.exitCode = 5
})
