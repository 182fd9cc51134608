import { type Absent, type Contender, LIMITS, SCRIPT, stopwatch } from './contender.js'
import { LABELS } from './left-over.js'

/** The peer from npm that starts a container for a program; it has no repository in it. */
export async function testcontainers(image: string, dockerHost: string): Promise<Contender | Absent> {
  const name = 'testcontainers'
  process.env.DOCKER_HOST ??= dockerHost
  // Its reaper is an image that would have to be pulled.
  process.env.TESTCONTAINERS_RYUK_DISABLED = 'true'
  try {
    const { GenericContainer, Wait } = await import('testcontainers')
    return {
      name,
      prepare: async () => undefined,
      run: async () => {
        const elapsed = stopwatch()
        let firstByteMs = Number.NaN
        const container = await new GenericContainer(image)
          .withCommand(['/bin/sh', '-c', `cd /tmp && ${SCRIPT}`])
          .withNetworkMode('none')
          .withLabels(LABELS)
          .withResourcesQuota({ cpu: LIMITS.cpu, memory: LIMITS.memoryBytes / 2 ** 30 })
          .withLogConsumer(stream => void stream.once('data', () => (firstByteMs = elapsed())))
          .withWaitStrategy(Wait.forOneShotStartup())
          .start()
        await container.stop({ remove: true, timeout: 0 })
        return { firstByteMs, resultMs: elapsed() }
      },
    }
  } catch (error) {
    return { name, reason: `it does not load on Node ${process.version}: ${String(error)}` }
  }
}
