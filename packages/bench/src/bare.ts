import { once } from 'node:events'
import type Docker from 'dockerode'
import { type Contender, LIMITS, SCRIPT, stopwatch } from './contender.js'

/**
 * The floor of any container: create, attach, start, wait, remove, with nothing in it and nothing around it, and with
 * what is known to make the engine faster. A contender that beats it knows something that belongs in here too.
 */
export function bareContainer(docker: Docker, image: string): Contender {
  return {
    name: 'bare container',
    prepare: async () => undefined,
    run: async () => {
      const elapsed = stopwatch()
      const container = await docker.createContainer(spec(image))
      try {
        const stream = await container.attach({ stream: true, stdout: true, stderr: true })
        const first = once(stream, 'data').then(elapsed)
        // Before start: a wait that begins after the exit may never end.
        const exit = container.wait({ condition: 'next-exit' })
        await container.start()
        const [firstByteMs, { StatusCode: status }] = await Promise.all([first, exit])
        if (status !== 0) throw new Error(`the bare container ended with ${status}`)
        await container.remove()
        return { firstByteMs, resultMs: elapsed() }
      } catch (error) {
        await container.remove({ force: true }).catch(() => undefined)
        throw error
      }
    },
  }
}

function spec(image: string): Docker.ContainerCreateOptions {
  return {
    Image: image,
    Cmd: ['/bin/sh', '-c', SCRIPT],
    WorkingDir: '/tmp',
    AttachStdout: true,
    AttachStderr: true,
    // Spares the engine the set-up of a network sandbox: with Docker 20.10 the first byte came after 110 ms, not 220.
    NetworkDisabled: true,
    HostConfig: {
      Init: true,
      NetworkMode: 'none',
      LogConfig: { Type: 'none', Config: {} },
      NanoCpus: LIMITS.cpu * 1e9,
      Memory: LIMITS.memoryBytes,
      MemorySwap: LIMITS.memoryBytes,
      PidsLimit: LIMITS.pids,
    },
  }
}
