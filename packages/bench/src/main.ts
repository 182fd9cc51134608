import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
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
import { bareContainer } from './bare.js'
import { cloneAndRun } from './clone-and-run.js'
import { type Contender, REPOSITORY_FILES } from './contender.js'
import { measure } from './measure.js'
import { runtime } from './runtime.js'
import { summarize } from './statistics.js'
import { renderTable } from './table.js'

const HELP = `usage: pnpm bench [--runs N] [--json FILE]
  --runs N     rounds that count; one more warms up (default 20)
  --json FILE  also write every sample there
`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { runs: { type: 'string', default: '20' }, json: { type: 'string' }, help: { type: 'boolean' } },
  })
  const runs = Number(values.runs)
  if (values.help) return void process.stdout.write(HELP)
  if (!Number.isInteger(runs) || runs < 1)
    throw new Error(`--runs ${values.runs}; it must be a whole number above 0`)
  await withMachine(async machine => {
    const samples = await measure({
      contenders: machine.contenders,
      runs,
      onRound: round => say(`round ${round} of ${runs}`),
    })
    const report = summarize(samples)
    process.stdout.write(`\n${renderTable(report, machine.floors)}\n`)
    if (values.json !== undefined)
      await writeFile(values.json, `${JSON.stringify({ ...machine.facts, runs, report }, null, 2)}\n`)
  })
}

interface Machine {
  readonly contenders: readonly Contender[]
  /** Names of those that the others are held against. */
  readonly floors: readonly string[]
  /** What the figures depend on. */
  readonly facts: Readonly<Record<string, unknown>>
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
  const urlOf = await repositories(folder, release)

  const queue = uniqueQueue('bench')
  release.push(() => removeQueue(redisUrl, queue))
  const producer = createProducer({ redis: redisUrl, queue })
  release.push(() => producer.close())
  const worker = await startWorker({
    redisUrl,
    queue,
    dataDir: join(folder, 'data'),
    env: { DOCKER_HOST: dockerHost, AGIRUNNER_GIT_ALLOW_PRIVATE: 'yes' },
  })
  release.push(() => worker.stop())

  const docker = connectEngine(dockerHost)
  const peer = cloneAndRun({ image, dockerHost, folder, urlOf: round => urlOf(`peer-${round}`) })
  const bare = bareContainer(docker, image)
  const cold = runtime({ name: 'runtime, cold', producer, image, urlOf: round => urlOf(`cold-${round}`) })
  const warm = runtime({ name: 'runtime, warm', producer, image, urlOf: () => urlOf('warm') })
  const { ServerVersion: engine } = (await docker.info()) as { ServerVersion: string }
  return {
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

/** Below the data folder, so that the worker meets the file system that it would meet in earnest. */
async function temporaryFolder(dataDir: string, release: (() => Promise<unknown>)[]): Promise<string> {
  await mkdir(dataDir, { recursive: true })
  const folder = await mkdtemp(join(dataDir, 'bench-'))
  release.push(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** Serves repositories that are made when they are first asked for; each has a commit that no other has. */
async function repositories(
  folder: string,
  release: (() => Promise<unknown>)[],
): Promise<(name: string) => Promise<string>> {
  const root = join(folder, 'repositories')
  const server = await serveGit({ root })
  release.push(() => server.close())
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
    return `${server.url}/${name}.git`
  }
}

function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

main().catch((error: unknown) => {
  process.stderr.write(`error: the benchmark did not end; ${String(error)}\n`)
  process.exitCode = 5
})
