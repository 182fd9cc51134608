import { ConfigError, readConfigWithoutQueue } from './config.js'
import { dockerEngine } from './engine/docker/docker-engine.js'
import { createImages } from './execution/images/index.js'
import { asTaskFailure } from './report/outcome.js'
import { hostId, newWorkerId } from './support/identity.js'

/** Whose right to use an image is asked for: nobody's, so what came by a tenant's credentials is not looked into. */
const NOBODY = ''

/**
 * Says what is in an image, as the worker would find it: `verify-image.js IMAGE` prints one JSON object, either
 * `{reference, digest, facts}` or `{failure}`, and ends with 0. Other codes: 2 wrong configuration or call.
 */
async function main(): Promise<void> {
  const [, , image] = process.argv
  if (image === undefined) throw new ConfigError(['the name of an image is missing'])
  const config = readConfigWithoutQueue()
  const engine = dockerEngine(config.engine)
  const owner = { worker: newWorkerId(), host: hostId(), stack: '' }
  const share = { signal: new AbortController().signal, progress: () => undefined }
  try {
    const info = await engine.info()
    const { images, verification } = await createImages(
      { ...config, isLocal: false },
      { engine, info, owner },
    )
    const request = { image, pullPolicy: 'if_not_present', credentials: null, tenantId: NOBODY } as const
    const { reference, digest, info: found } = await images.ready(request, share)
    print({ reference, digest, machine: info.platform, facts: await verification.facts(found, share.signal) })
  } catch (error) {
    print({ failure: asTaskFailure(error, 'image').toFailure('image') })
  }
}

function print(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

main().catch((error: unknown) => {
  process.stderr.write(`error: ${(error as Error).message}\n`)
  process.exit(2)
})
