import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { git } from '@agirunner/test-kit'
import { type Contender, LIMITS, SCRIPT, stopwatch } from './contender.js'
import { LABEL_ARGUMENTS } from './left-over.js'

export interface CloneAndRunOptions {
  readonly program: 'docker' | 'podman'
  readonly image: string
  readonly dockerHost: string
  /** The repository of a round. */
  readonly urlOf: (round: number) => Promise<string>
  /** Where clones go; the engine must see it. */
  readonly folder: string
}

/** The peer: what a person does by hand, with the real git and docker or podman programs. */
export function cloneAndRun(options: CloneAndRunOptions): Contender {
  const { program, dockerHost, urlOf, folder } = options
  return {
    name: `git clone + ${program} run`,
    prepare: async round => void (await urlOf(round)),
    run: async round => {
      const url = await urlOf(round)
      const elapsed = stopwatch()
      const clone = await mkdtemp(join(folder, 'clone-'))
      await git(['clone', '--quiet', '--depth', '1', url, clone])
      const firstByteMs = await runAndRead(program, runArguments(options, clone), dockerHost, elapsed)
      const resultMs = elapsed()
      await rm(clone, { recursive: true, force: true })
      return { firstByteMs, resultMs }
    },
  }
}

function runArguments({ program, image }: CloneAndRunOptions, clone: string): string[] {
  const limits = `--cpus=${LIMITS.cpu} --memory=${LIMITS.memoryBytes} --memory-swap=${LIMITS.memoryBytes} --pids-limit=${LIMITS.pids}`
  // Podman raises these above what a machine may allow, and then runs nothing; the engine's service has limits of its own.
  const own = program === 'podman' ? ['--ulimit=nofile=1024:1024', '--ulimit=nproc=1024:1024'] : []
  const place = [`--volume=${clone}:/workspace/repo`, '--workdir=/workspace/repo']
  return [
    'run',
    '--rm',
    '--init',
    '--network=none',
    ...LABEL_ARGUMENTS,
    ...own,
    ...limits.split(' '),
    ...place,
    image,
    '/bin/sh',
    '-c',
    SCRIPT,
  ]
}

/** @returns when the first byte came */
async function runAndRead(
  program: string,
  args: readonly string[],
  dockerHost: string,
  elapsed: () => number,
): Promise<number> {
  const child = spawn(program, args, {
    env: { ...process.env, DOCKER_HOST: dockerHost },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const first = once(child.stdout, 'data').then(elapsed)
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const [status] = await once(child, 'close')
  if (status !== 0) throw new Error(`${program} run ended with ${String(status)}: ${errors.trim()}`)
  return await first
}
