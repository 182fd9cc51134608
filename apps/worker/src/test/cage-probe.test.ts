import { randomUUID } from 'node:crypto'
import type { EngineFacts } from '@agirunner/contracts'
import { connectEngine } from '@agirunner/test-kit'
import { afterAll, describe, expect, test } from '@jest/globals'
import { createBody } from '../engine/docker/body.js'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import { SECURITY_OPTIONS } from '../engine/docker/security-options.js'
import type { ContainerEngine } from '../engine/engine.js'
import { LABELS } from '../engine/labels.js'
import { probeCage } from '../execution/cage-probe.js'

const image = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
const owner = { worker: `w-${process.pid}-0-test`, host: 'test', stack: randomUUID() }
const docker = connectEngine()
const engine = dockerEngine({ host: process.env.DOCKER_HOST ?? null, tls: false })

afterAll(async () => {
  expect(await engine.containers(`${LABELS.stack}=${owner.stack}`)).toEqual([])
})

/** The real engine, as if it made less of a container than it was asked for. */
function careless(less: Record<string, unknown>): ContainerEngine {
  const create: ContainerEngine['create'] = async spec => {
    const body = createBody(spec)
    const made = await docker.createContainer({ ...body, HostConfig: { ...body.HostConfig, ...less } })
    return made.id
  }
  return new Proxy(engine, {
    get: (target, key: keyof ContainerEngine) =>
      key === 'create' ? create : (target[key] as (...args: unknown[]) => unknown).bind(target),
  })
}

async function probe(using: ContainerEngine, facts: Partial<EngineFacts> = {}, of = image) {
  const info = await engine.info()
  return await probeCage({
    engine: using,
    info: { ...info, facts: { ...info.facts, ...facts } },
    owner,
    image: of,
  })
}

describe('the probe of the cage', () => {
  test('finds everything vital in force, by a container that has it', async () => {
    const found = await probe(engine)
    const enforced = found.filter(({ state }) => state === 'enforced').map(({ name }) => name)
    expect(enforced).toEqual(
      expect.arrayContaining(['init', 'memory limit', 'cpu limit', 'pids limit', 'seccomp', 'privileges']),
    )
    expect(found.find(({ name }) => name === 'seccomp')?.detail).toMatch(/seen at work/)
  })

  test('believes the engine where the image is not there to try', async () => {
    const found = await probe(engine, {}, 'agirunner/no-such:1')
    expect(found.find(({ name }) => name === 'seccomp')).toMatchObject({ state: 'enforced' })
    expect(found.map(({ name }) => name)).not.toContain('privileges')
  })

  test.each<[string, Record<string, unknown>, string]>([
    ['no init', { Init: false }, 'init'],
    ['no filter', { SecurityOpt: ['no-new-privileges', 'seccomp=unconfined'] }, 'seccomp'],
    ['a filter of its own', { SecurityOpt: ['no-new-privileges'] }, 'seccomp'],
    ['setuid in force', { SecurityOpt: SECURITY_OPTIONS.slice(1) }, 'privileges'],
    ['capabilities', { CapDrop: [] }, 'privileges'],
    ['other memory', { Memory: 128 * 2 ** 20, MemorySwap: 128 * 2 ** 20 }, 'memory limit'],
    ['any number of processes', { PidsLimit: -1 }, 'pids limit'],
    ['all processors', { NanoCpus: 0 }, 'cpu limit'],
  ])('refuses an engine that gives a container %s', async (_what, less, name) => {
    await expect(probe(careless(less))).rejects.toMatchObject({
      code: 'environment.unsupported',
      message: expect.stringMatching(
        new RegExp(`^the engine can't hold tasks:\n {2}- ${name}: [^\n]+; [^\n]+$`),
      ),
    })
  })

  test('names all that an engine says that it lacks', async () => {
    const lacks = { memoryLimit: false, pidsLimit: false, security: [], init: null }
    await expect(probe(engine, lacks, 'agirunner/no-such:1')).rejects.toMatchObject({
      message: expect.stringMatching(/init: .*\n.*memory limit: .*\n.*pids limit: .*\n.*seccomp: /),
    })
  })
})
