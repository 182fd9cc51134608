import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { git } from '@agirunner/test-kit'
import { type Absent, type Contender, SCRIPT, stopwatch } from './contender.js'
import { hasProgram } from './programs.js'

export interface GitlabCiLocalOptions {
  readonly image: string
  readonly dockerHost: string
  readonly folder: string
  readonly url: () => Promise<string>
}

/** What it can be told: it knows no limits of CPU, memory or pids, and its helper image would have to be pulled. */
const OPTIONS = '--pull-policy if-not-present --network none --no-color --no-json-schema-validation'.split(
  ' ',
)

/** The peer from npm that runs a job of a repository in a container; the checkout is there, as on a person's machine. */
export async function gitlabCiLocal(options: GitlabCiLocalOptions): Promise<Contender | Absent> {
  const name = 'gitlab-ci-local'
  if (!(await hasProgram('rsync'))) return { name, reason: 'it needs rsync: apt-get install rsync' }
  const checkout = await makeCheckout(options)
  const program = fileURLToPath(import.meta.resolve('gitlab-ci-local'))
  const { image, dockerHost } = options
  const args = [program, 'job', ...OPTIONS, '--helper-image', image, '--home', checkout]
  return {
    name,
    prepare: async () => undefined,
    run: async () => {
      const elapsed = stopwatch()
      const child = spawn(process.execPath, args, {
        cwd: checkout,
        env: { ...process.env, DOCKER_HOST: dockerHost },
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      let firstByteMs = Number.NaN
      let output = ''
      child.stdout.on('data', (bytes: Buffer) => {
        output += bytes.toString('utf8')
        // The line of the task's, not the one that tells the command.
        if (Number.isNaN(firstByteMs) && /> started/.test(output)) firstByteMs = elapsed()
      })
      const [status] = await once(child, 'close')
      if (status !== 0) throw new Error(`${name} ended with ${String(status)}: ${output}`)
      return { firstByteMs, resultMs: elapsed() }
    },
  }
}

async function makeCheckout({ folder, url, image }: GitlabCiLocalOptions): Promise<string> {
  const checkout = await mkdtemp(join(folder, 'gitlab-'))
  await git(['clone', '--quiet', '--depth', '1', await url(), checkout])
  const script = SCRIPT.split(' && ').map(command => `    - ${command}\n`)
  await writeFile(join(checkout, '.gitlab-ci.yml'), `job:\n  image: ${image}\n  script:\n${script.join('')}`)
  await git(['add', '.gitlab-ci.yml'], { cwd: checkout })
  await git(['commit', '--quiet', '--message', 'A job'], { cwd: checkout })
  // It takes the names of a group and a project from there.
  await git(['remote', 'set-url', 'origin', 'http://localhost/bench/project.git'], { cwd: checkout })
  return checkout
}
