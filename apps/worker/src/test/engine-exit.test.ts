import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { eventually } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import Docker from 'dockerode'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import type { ContainerEngine, ContainerSpec } from '../engine/engine.js'
import { labelsOf } from '../engine/labels.js'
import { HELPER } from '../workspace/helper-container.js'
import { EngineProxy } from './engine-proxy.js'

let proxy: EngineProxy
let engine: ContainerEngine
const made: string[] = []
const image = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

beforeAll(async () => {
  proxy = await EngineProxy.start()
  engine = dockerEngine({ host: proxy.host, tls: false })
})
afterAll(async () => {
  for (const id of made) await engine.remove(id)
  proxy.cutAll()
  await proxy.close()
})

/** Runs until something is put into its /tmp, or for a minute, and ends with 3. */
async function start(): Promise<string> {
  const slot = randomUUID()
  const spec: ContainerSpec = {
    ...HELPER,
    name: `agirunner-exit-${slot}`,
    image,
    command: ['/bin/sh', '-c', 'for i in $(seq 600); do [ -e /tmp/go ] && exit 3; sleep 0.1; done'],
    labels: labelsOf({ worker: 'w', host: 'h', stack: slot }, 'helper', slot, image),
    user: '0:0',
    readOnlyRoot: false,
    mounts: [],
  }
  const id = await engine.create(spec)
  made.push(id)
  await engine.start(id)
  return id
}

const go = (id: string) => execFileSync('docker', ['exec', id, 'touch', '/tmp/go'])

describe('the end of a container', () => {
  it('is told though the connection broke, and more than once, and it is not lost', async () => {
    const id = await start()
    const exit = engine.exit(id, AbortSignal.timeout(30_000))
    for (const round of [1, 2]) {
      await eventually(() => proxy.waited === round, { what: `wait ${round}` })
      proxy.cutAll()
    }
    go(id)
    expect(await exit).toMatchObject({ exitCode: 3, lost: false })
  })

  it('never comes by the library’s own way then', async () => {
    const id = await start()
    const before = proxy.waited
    const { hostname, port } = new URL(proxy.host)
    const wait = new Docker({ host: hostname, port }).getContainer(id).wait({ condition: 'not-running' })
    const settled = wait.then(
      () => 'settled',
      () => 'settled',
    )
    await eventually(() => proxy.waited > before)
    proxy.cutAll()
    go(id)
    await eventually(async () => !(await new Docker().getContainer(id).inspect()).State.Running)
    expect(await Promise.race([settled, pause(1000, 'open')])).toBe('open')
  })

  it('of one that is gone is lost', async () => {
    const id = await start()
    const exit = engine.exit(id, AbortSignal.timeout(30_000))
    await new Docker().getContainer(id).remove({ force: true })
    expect(await exit).toMatchObject({ lost: true })
  })
})
