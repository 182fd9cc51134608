import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import {
  eventually,
  findSecret,
  layerOf,
  serveRegistry,
  type TestRegistry,
  type TestWorker,
} from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { docker } from './derived-image.js'
import { folderPlaces, inspectPlaces, type Place, processPlaces, redisPlaces } from './places.js'
import { SMALL_CONFIG, smallRootLayer } from './small-image.js'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

const USER = 'someone'
const TOKEN = 't0k"en\\/+% ~?>73c1a9b54e0f4b6f8d2f'
const WRONG = 'wr0ng"\\/+% ~?>0b1d7c2a99fe4d21a6cc'
const VARIABLES = { REGISTRY_TOKEN: TOKEN, REGISTRY_WRONG: WRONG }
const BY_DESIGN = Object.entries(VARIABLES).map(([name, value]) => `${name}=${value}`)

let world: World
let worker: TestWorker
let registry: TestRegistry
let digest: string
let image: string
const config = mkdtempSync(join(tmpdir(), 'agirunner-e2e-docker-'))

beforeAll(async () => {
  world = await createWorld()
  const auth = { username: USER, password: TOKEN, scheme: 'bearer' as const, open: ['open/app'] }
  registry = await serveRegistry({ auth })
  const layers = [smallRootLayer(), layerOf({ 'data.bin': randomBytes(1024) })]
  for (const name of ['acme/private', 'open/app', 'acme/helped'])
    digest = registry.publish(name, '1', { layers, config: SMALL_CONFIG })
  image = `${registry.host}/acme/private:1`
  const bin = join(config, 'bin')
  mkdirSync(bin)
  worker = await world.startWorker({
    // What waits for a next task holds its image, which these tests remove.
    AGIRUNNER_PARK: '0',
    ...VARIABLES,
    AGIRUNNER_SECRET_ENV: Object.keys(VARIABLES).join(','),
    AGIRUNNER_LOG_LEVEL: 'debug',
    DOCKER_CONFIG: config,
    PATH: `${bin}:${process.env.PATH}`,
  })
}, 120_000)

afterEach(() => {
  registry.misbehave(null)
  rmSync(join(config, 'config.json'), { force: true })
  const known = docker('images', '-q', '--filter', `reference=${registry.host}/*/*`)
  const ids = [...new Set(known.split('\n').filter(Boolean))]
  if (ids.length > 0) docker('rmi', '-f', ...ids)
})

afterAll(async () => {
  await world.close()
  await registry.close()
  rmSync(config, { recursive: true })
}, 60_000)

async function enqueue(
  environment: TaskInput['environment'],
  more: Omit<TaskInput, 'taskId' | 'environment'> = { run: { script: 'echo it runs' } },
): Promise<string> {
  const taskId = newTaskId('registry')
  await world.producer.enqueue({ taskId, environment: { image, ...environment }, ...more })
  return taskId
}

async function run(...args: Parameters<typeof enqueue>): Promise<TaskResult> {
  return await world.producer.waitForResult(await enqueue(...args))
}

const credentials = (name: keyof typeof VARIABLES) => ({
  registryCredentials: { username: USER, password: { secretRef: `env:${name}` } },
})

/** What is told of a task, and what is there of the worker. */
async function placesOf(taskId: string, result: TaskResult): Promise<Place[]> {
  const told: Place[] = [['result', JSON.stringify(result)]]
  for await (const entry of world.producer.logs(taskId)) told.push(['log', entry.text])
  for await (const event of world.producer.events(taskId)) told.push(['event', JSON.stringify(event)])
  const around = await Promise.all([
    redisPlaces(world.redis.url),
    folderPlaces(world.dataDir),
    processPlaces(worker.pid, BY_DESIGN),
  ])
  return [...told, ...around.flat(), ["the worker's log", worker.log()]]
}

function leaksIn(places: readonly Place[]): string[] {
  return places.flatMap(([name, content]) =>
    [TOKEN, WRONG].flatMap(secret => findSecret(content, secret).map(form => `${name}: ${form}`)),
  )
}

describe('a private image', () => {
  it('comes by the credentials of the task, which are told to nobody else', async () => {
    const script = 'echo ready; until [ -e /tmp/go ]; do sleep 0.1; done'
    const taskId = await enqueue(credentials('REGISTRY_TOKEN'), { run: { script } })
    const container = await eventually(
      () => docker('ps', '-q', '--filter', `label=agirunner.worker=${worker.id}`).split('\n')[0],
      { what: 'the container' },
    )
    const seen = await inspectPlaces(container)
    docker('exec', container, 'sh', '-c', ': >/tmp/go')
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({
      status: 'succeeded',
      container: { image, imageDigest: `${registry.host}/acme/private@${digest}` },
    })
    expect(leaksIn([...seen, ...(await placesOf(taskId, result))])).toEqual([])
    const basic = `Basic ${Buffer.from(`${USER}:${TOKEN}`).toString('base64')}`
    const told = new Set(registry.asked.map(({ authorization }) => authorization))
    // The control: the registry did get them.
    expect(told).toContain(basic)
  }, 60_000)

  it('does not come by wrong ones, which are told to nobody either', async () => {
    const taskId = await enqueue(credentials('REGISTRY_WRONG'))
    const result = await world.producer.waitForResult(taskId)
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'image.auth_failed', phase: 'image' },
      attempts: [{ attempt: 1 }],
    })
    expect(leaksIn(await placesOf(taskId, result))).toEqual([])
  }, 60_000)

  it('is not run for a tenant that has none, though it is on the machine', async () => {
    const own = await run(credentials('REGISTRY_TOKEN'), { tenantId: 'acme', run: { script: 'true' } })
    expect(own.status).toBe('succeeded')
    for (const pullPolicy of ['if_not_present', 'never'] as const) {
      const other = await run({ pullPolicy }, { tenantId: 'other', run: { script: 'true' } })
      const code = pullPolicy === 'never' ? 'image.not_found' : 'image.auth_failed'
      expect(other).toMatchObject({ failure: { code }, container: null })
    }
    const again = await run({ pullPolicy: 'never' }, { tenantId: 'acme', run: { script: 'true' } })
    expect(again.status).toBe('succeeded')
  }, 60_000)

  it('runs a bootstrap, for it holds what one needs', async () => {
    const task = { bootstrap: ['echo ready >/tmp/ready'], image: `${registry.host}/open/app:1` }
    const taskId = await enqueue(task, { run: { script: 'cat /tmp/ready' } })
    expect(await world.producer.waitForResult(taskId)).toMatchObject({ status: 'succeeded' })
    expect((await readLogs(world.producer, taskId)).stdout).toBe('ready\n')
  }, 60_000)
})

describe("the worker's own credentials", () => {
  const helped = () => `${registry.host}/acme/helped:1`

  function helper(name: string, script: string, settings: object): void {
    const file = join(config, 'bin', `docker-credential-${name}`)
    writeFileSync(file, `#!/bin/sh\n${script}\n`)
    chmodSync(file, 0o755)
    writeFileSync(join(config, 'config.json'), JSON.stringify(settings))
  }

  it.each(['credHelpers', 'credsStore'])(
    'come from a helper that %s names',
    async key => {
      const answer = JSON.stringify({ ServerURL: '', Username: USER, Secret: TOKEN })
      const script = `[ "$1" = get ] && read -r host; [ "$host" = '${registry.host}' ] && cat <<'END'\n${answer}\nEND`
      helper(
        'good',
        script,
        key === 'credsStore' ? { credsStore: 'good' } : { credHelpers: { [registry.host]: 'good' } },
      )
      expect(await run({ image: helped(), pullPolicy: 'always' })).toMatchObject({ status: 'succeeded' })
    },
    60_000,
  )

  it('are missed when the helper fails, and what it said is not repeated', async () => {
    helper('bad', `echo '${WRONG}'; echo '${WRONG}' >&2; exit 1`, { credsStore: 'bad' })
    const taskId = await enqueue({ image: helped(), pullPolicy: 'always' })
    const result = await world.producer.waitForResult(taskId)
    expect(result.failure).toMatchObject({
      code: 'image.auth_failed',
      message: expect.stringContaining('docker-credential-bad'),
    })
    expect(leaksIn(await placesOf(taskId, result))).toEqual([])
  }, 60_000)

  it('are not asked of a program outside the PATH', async () => {
    const mark = join(config, 'ran')
    helper('x', `: >'${mark}'`, {})
    writeFileSync(join(config, 'config.json'), JSON.stringify({ credsStore: '../bin/docker-credential-x' }))
    expect((await run({ image: helped(), pullPolicy: 'always' })).failure?.code).toBe('image.auth_failed')
  }, 60_000)
})

describe('a registry that breaks', () => {
  it('for a moment costs no attempt', async () => {
    // An engine asks twice in one pull, with HEAD and with GET.
    registry.misbehave('broken', { on: 'manifest', times: 2 })
    const result = await run({ image: `${registry.host}/open/app:1`, pullPolicy: 'always' })
    expect(result).toMatchObject({
      status: 'succeeded',
      attempts: [{ failure: { code: 'image.pull_failed', phase: 'image' } }, { failure: null }],
    })
  }, 60_000)

  it('for good ends the task after three', async () => {
    registry.misbehave('broken', { on: 'manifest' })
    const result = await run({ image: `${registry.host}/open/app:1`, pullPolicy: 'always' })
    expect(result).toMatchObject({
      status: 'failed',
      failure: { code: 'image.pull_failed', origin: 'infrastructure' },
    })
    expect(result.attempts).toHaveLength(3)
  }, 60_000)

  it('does not keep a task from being canceled', async () => {
    registry.misbehave('mute', { on: 'manifest' })
    const taskId = await enqueue({ image: `${registry.host}/open/app:1`, pullPolicy: 'always' })
    await eventually(() => registry.pending() > 0, { what: 'the pull' })
    await world.producer.cancel(taskId, 'too slow')
    expect(await world.producer.waitForResult(taskId)).toMatchObject({
      status: 'canceled',
      failure: { code: 'task.canceled', phase: 'image' },
    })
  }, 60_000)
})
