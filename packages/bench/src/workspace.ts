import { execFile } from 'node:child_process'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Producer } from '@agirunner/producer'
import { createRepository, git, manyFiles, type Repository } from '@agirunner/test-kit'
import { stopwatch } from './contender.js'
import { quantile } from './statistics.js'
import { align } from './table.js'

const run = promisify(execFile)

/** What is measured of each repository, in milliseconds. */
export interface WorkspaceSample {
  /** The peer: `git clone --depth 1` of the same commit from the same server. */
  readonly clone: number
  /** The floor for anything that copies: `cp -a --reflink=auto` of that clone. */
  readonly copy: number
  /** The runtime's workspace of a repository that it has never seen. */
  readonly first: number
  /** Of the next commit of a repository that it knows. */
  readonly next: number
  /** Of a commit that it knows. */
  readonly repeat: number
  /** Reading the change of one file. */
  readonly capture: number
}

export interface WorkspaceReport {
  readonly files: number
  readonly samples: readonly WorkspaceSample[]
}

export interface WorkspaceOptions {
  readonly producer: Producer
  readonly image: string
  /** The folder that the server at `url` serves. */
  readonly root: string
  readonly url: string
  /** Where clones go. */
  readonly folder: string
  readonly sizes: readonly number[]
  readonly runs: number
  readonly say: (line: string) => void
}

const FILE_BYTES = 2000

/**
 * Measures making a workspace for repositories of several sizes: in each round the peer, the floor and the runtime, one
 * after another. What the runtime took is what its results say (`timings.workspaceMs` and `captureMs`).
 */
export async function measureWorkspaces(options: WorkspaceOptions): Promise<WorkspaceReport[]> {
  const reports: WorkspaceReport[] = []
  for (const files of options.sizes) {
    const repository = await createRepository({
      root: options.root,
      name: `files-${files}`,
      files: manyFiles(files, FILE_BYTES),
    })
    const samples: WorkspaceSample[] = []
    for (let round = 0; round <= options.runs; round += 1) {
      const sample = await measureRound(options, repository, round)
      // The first round warms up.
      if (round > 0) samples.push(sample)
      options.say(`workspaces of ${files} files: round ${round} of ${options.runs}`)
    }
    reports.push({ files, samples })
  }
  return reports
}

async function measureRound(
  { producer, image, root, url, folder }: WorkspaceOptions,
  repository: Repository,
  round: number,
): Promise<WorkspaceSample> {
  // Another address is another repository to the runtime, and the same bytes.
  const name = `${repository.name}-${round}`
  await symlink(repository.path, join(root, `${name}.git`))
  const address = `${url}/${name}.git`
  const prepare = (commit: string, step: string) =>
    timingsOf(producer, image, { taskId: `${name}-${step}`, url: address, commit })
  const peerFirst = round % 2 === 0
  const before = peerFirst ? await cloneAndCopy(folder, address) : null
  const first = await prepare(repository.head, 'first')
  const peer = before ?? (await cloneAndCopy(folder, address))
  await repository.change(async builder => {
    await builder.write({ 'folder-0/file-0.txt': `round ${round}\n` })
    await builder.commit(`round ${round}`)
  })
  const next = await prepare(repository.head, 'next')
  const repeat = await prepare(repository.head, 'repeat')
  return {
    ...peer,
    first: first.workspaceMs,
    next: next.workspaceMs,
    repeat: repeat.workspaceMs,
    capture: repeat.captureMs,
  }
}

async function cloneAndCopy(folder: string, url: string): Promise<{ clone: number; copy: number }> {
  const at = await mkdtemp(join(folder, 'clone-'))
  try {
    let elapsed = stopwatch()
    await git(['clone', '--quiet', '--depth', '1', url, join(at, 'clone')])
    const clone = elapsed()
    elapsed = stopwatch()
    await run('cp', ['-a', '--reflink=auto', '--', join(at, 'clone'), join(at, 'copy')])
    return { clone, copy: elapsed() }
  } finally {
    await rm(at, { recursive: true, force: true })
  }
}

async function timingsOf(
  producer: Producer,
  image: string,
  { taskId, url, commit }: { taskId: string; url: string; commit: string },
): Promise<{ workspaceMs: number; captureMs: number }> {
  await producer.enqueue({
    taskId,
    workspace: { source: { type: 'git_remote', url, commit } },
    environment: { image },
    run: { script: 'echo changed >>folder-0/file-1.txt' },
  })
  const { status, failure, changes, timings } = await producer.waitForResult(taskId)
  if (status !== 'succeeded' || changes?.files.length !== 1) {
    throw new Error(`${taskId} ended as ${status}: ${failure?.message ?? 'without its change'}`)
  }
  return { workspaceMs: timings.workspaceMs ?? Number.NaN, captureMs: timings.captureMs ?? Number.NaN }
}

/** The medians, and what they are held against. */
export function renderWorkspaces(reports: readonly WorkspaceReport[]): string {
  const heading = ['workspace', ...reports.map(({ files }) => `${files} files`)]
  const median = ({ samples }: WorkspaceReport, of: (sample: WorkspaceSample) => number) =>
    quantile(samples.map(of), 0.5)
  const ms = (title: string, of: (sample: WorkspaceSample) => number) => [
    title,
    ...reports.map(report => `${median(report, of).toFixed(1)} ms`),
  ]
  const ratio = (title: string, of: (sample: WorkspaceSample) => number) => [
    title,
    ...reports.map(report => median(report, of).toFixed(2)),
  ]
  return align([
    heading,
    ms('git clone --depth 1', sample => sample.clone),
    ms('cp -a --reflink=auto', sample => sample.copy),
    ms('first clone', sample => sample.first),
    ratio('  ÷ git clone', sample => sample.first / sample.clone),
    ms('next commit', sample => sample.next),
    ratio('  ÷ git clone', sample => sample.next / sample.clone),
    ratio('  ÷ cp', sample => sample.next / sample.copy),
    ms('repeat of a commit', sample => sample.repeat),
    ratio('  ÷ git clone', sample => sample.repeat / sample.clone),
    ratio('  ÷ cp', sample => sample.repeat / sample.copy),
    ms('capture of one file', sample => sample.capture),
  ])
}
