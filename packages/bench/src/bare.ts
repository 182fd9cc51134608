import { once } from 'node:events'
import type Docker from 'dockerode'
import { containerSpec } from './container-spec.js'
import { type Contender, SCRIPT, stopwatch } from './contender.js'

/**
 * The floor of any container: create, attach, start, wait, remove, with nothing in it and nothing around it, and with
 * what is known to make the engine faster. A contender that beats it knows something that belongs in here too.
 */
export function bareContainer(docker: Docker, image: string): Contender {
  return {
    name: 'bare container',
    prepare: async () => undefined,
    run: async () => await runBare(docker, image),
  }
}

/** @returns of the `startMs` nothing but the two calls, and of the `endMs` from the engine's word of the exit */
export async function runBare(docker: Docker, image: string) {
  const elapsed = stopwatch()
  const container = await docker.createContainer(spec(image))
  const createMs = elapsed()
  try {
    const stream = await container.attach({ stream: true, stdout: true, stderr: true })
    const first = once(stream, 'data').then(elapsed)
    // Before start: a wait that begins after the exit may never end.
    const exit = container.wait({ condition: 'next-exit' })
    const starting = stopwatch()
    await container.start()
    const startMs = createMs + starting()
    const [firstByteMs, { StatusCode: status }] = await Promise.all([first, exit])
    if (status !== 0) throw new Error(`the bare container ended with ${status}`)
    const ending = stopwatch()
    await container.remove()
    return { firstByteMs, resultMs: elapsed(), startMs, endMs: ending() }
  } catch (error) {
    await container.remove({ force: true }).catch(() => undefined)
    throw error
  }
}

/** Create, start, wait, remove, and no look at what it prints: the loop that throughput is held against. */
export async function runUnheard(docker: Docker, image: string): Promise<void> {
  const container = await docker.createContainer({ ...spec(image), AttachStdout: false, AttachStderr: false })
  try {
    const exit = container.wait({ condition: 'next-exit' })
    await container.start()
    const { StatusCode: status } = await exit
    if (status !== 0) throw new Error(`the bare container ended with ${status}`)
  } finally {
    await container.remove({ force: true })
  }
}

function spec(image: string): Docker.ContainerCreateOptions {
  return { ...containerSpec(image, SCRIPT), WorkingDir: '/tmp' }
}
