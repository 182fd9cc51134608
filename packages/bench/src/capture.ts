import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createRepository, git, manyFiles } from '@agirunner/test-kit'
import { stopwatch } from './contender.js'
import { quantile } from './statistics.js'
import { align } from './table.js'
import type { WorkspaceOptions } from './workspace.js'

const run = promisify(execFile)

/** What is measured of one change, in milliseconds. */
interface CaptureSample {
  /** The peer: `git add -A`, `git diff --cached --binary` and `git commit` in a clone, which trusts what is in it. */
  readonly git: number
  /** What `timings.captureMs` says with `capture.changes` "patch". */
  readonly patch: number
  /** The same with "commit": the patch, the commit and its bundle. */
  readonly commit: number
}

export interface CaptureReport {
  readonly files: number
  readonly change: string
  readonly samples: readonly CaptureSample[]
}

const FILE_BYTES = 2000
/** Scripts that any shell runs, in a repository of `manyFiles`. */
const CHANGES: Readonly<Record<string, string>> = {
  'one file': 'echo changed >>folder-0/file-1.txt',
  '100 files': 'for f in folder-0/*; do echo changed >>$f; done',
  '2000 new files': 'mkdir new; i=0; while [ $i -lt 2000 ]; do echo $i >new/$i; i=$((i+1)); done',
  '32 MiB of noise': 'head -c 33554432 /dev/urandom >noise',
  'a folder moved': 'mv folder-0 moved',
}

/** Measures reading a change by its size and by that of the repository, beside git's own way. */
export async function measureCaptures(options: WorkspaceOptions): Promise<CaptureReport[]> {
  const reports: CaptureReport[] = []
  for (const files of options.sizes) {
    const name = `capture-${files}`
    await createRepository({ root: options.root, name, files: manyFiles(files, FILE_BYTES) })
    const url = `${options.url}/${name}.git`
    const clone = await mkdtemp(join(options.folder, 'clone-'))
    await git(['clone', '--quiet', url, join(clone, 'a')])
    for (const [change, script] of Object.entries(CHANGES)) {
      const samples: CaptureSample[] = []
      for (let round = 0; round <= options.runs; round += 1) {
        const taskId = `${name}-${Object.keys(CHANGES).indexOf(change)}-${round}`
        const sample = {
          git: await byGit(join(clone, 'a'), script),
          patch: await captureMs(options, { taskId: `${taskId}-patch`, url, script, changes: 'patch' }),
          commit: await captureMs(options, { taskId: `${taskId}-commit`, url, script, changes: 'commit' }),
        }
        // The first round warms up.
        if (round > 0) samples.push(sample)
      }
      options.say(`captures: ${change} of ${files} files`)
      reports.push({ files, change, samples })
    }
    await rm(clone, { recursive: true, force: true })
  }
  return reports
}

async function byGit(clone: string, script: string): Promise<number> {
  await run('sh', ['-ec', script], { cwd: clone })
  const elapsed = stopwatch()
  await git(['add', '--all'], { cwd: clone })
  await git(['diff', '--cached', '--binary', '-M', `--output=${clone}.patch`], { cwd: clone })
  await git(['commit', '--quiet', '--message', 'work'], { cwd: clone })
  const took = elapsed()
  await git(['reset', '--quiet', '--hard', 'HEAD^'], { cwd: clone })
  return took
}

async function captureMs(
  { producer, image }: WorkspaceOptions,
  task: { taskId: string; url: string; script: string; changes: 'patch' | 'commit' },
): Promise<number> {
  const { taskId, url, script, changes } = task
  await producer.enqueue({
    taskId,
    workspace: { source: { type: 'git_remote', url } },
    environment: { image },
    run: { script },
    capture: { changes },
  })
  const result = await producer.waitForResult(taskId)
  const isWhole = result.changes?.patch && (changes === 'patch' || result.changes.bundle)
  if (result.status !== 'succeeded' || !isWhole)
    throw new Error(`${taskId} ended as ${result.status}: ${result.failure?.message ?? 'without its change'}`)
  return result.timings.captureMs ?? Number.NaN
}

/** The medians; one line for each change of each repository. */
export function renderCaptures(reports: readonly CaptureReport[]): string {
  const heading = ['capture', 'files', 'git', 'patch', 'commit', 'patch ÷ git', 'commit ÷ git']
  const rows = reports.map(({ files, change, samples }) => {
    const median = (of: (sample: CaptureSample) => number) => quantile(samples.map(of), 0.5)
    const ms = (of: (sample: CaptureSample) => number) => `${median(of).toFixed(1)} ms`
    return [
      change,
      String(files),
      ms(({ git: one }) => one),
      ms(({ patch }) => patch),
      ms(({ commit }) => commit),
      median(({ patch, git: one }) => patch / one).toFixed(2),
      median(({ commit, git: one }) => commit / one).toFixed(2),
    ]
  })
  return align([heading, ...rows])
}
