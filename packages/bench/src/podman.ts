import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { type CloneAndRunOptions, cloneAndRun } from './clone-and-run.js'
import type { Absent, Contender } from './contender.js'
import { hasProgram } from './programs.js'

const run = promisify(execFile)

/** As by hand with docker; the image is taken over from the engine, because both name it and only one was told of it. */
export async function podmanRun(options: Omit<CloneAndRunOptions, 'program'>): Promise<Contender | Absent> {
  const contender = cloneAndRun({ ...options, program: 'podman' })
  const { name } = contender
  if (!(await hasProgram('podman'))) return { name, reason: 'not installed: apt-get install podman' }
  const load = `docker save '${options.image}' | podman load`
  const env = { ...process.env, DOCKER_HOST: options.dockerHost }
  try {
    await run('bash', ['-c', `set -o pipefail; podman image exists '${options.image}' || ${load}`], { env })
  } catch (error) {
    return { name, reason: `podman does not take the image: ${String(error)}` }
  }
  return contender
}
