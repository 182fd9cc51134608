// Run by a test in a mount namespace of its own: prints what the probe finds. DATA IMAGE STACK
import { dockerEngine } from '../engine/docker/docker-engine.js'
import { probeStrategy } from '../workspace/index.js'

const [, , dataDir = '', image = '', stack = ''] = process.argv
const engine = dockerEngine(
  { host: process.env.DOCKER_HOST ?? null, tls: false },
  { bindRoots: [dataDir], runtimes: [] },
)
const owner = { worker: `w-${process.pid}-0-test`, host: 'test', stack }
process.stdout.write(`${JSON.stringify(await probeStrategy(engine, { dataDir, image, owner }))}\n`)
process.exit()
