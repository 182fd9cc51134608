import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { connectEngine, eventually, type PrivateEngine, startPrivateEngine } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { ContainerSpec } from '../engine.js'
import { LABELS } from '../labels.js'
import { createBody } from './body.js'
import { dockerEngine } from './docker-engine.js'

const engine = dockerEngine({ host: process.env.DOCKER_HOST ?? null, tls: false })
const mark = randomBytes(4).toString('hex')
const made: string[] = []

function spec(more: Partial<ContainerSpec> = {}): ContainerSpec {
  return {
    name: `agirunner-test-${mark}-${made.length}`,
    image: 'agirunner/debian-base:1',
    command: ['/bin/sh', '-c', 'exit 0'],
    env: [],
    labels: { [LABELS.managed]: 'true', [LABELS.stack]: mark },
    user: '10001:10001',
    readOnlyRoot: true,
    capabilities: [],
    mounts: [],
    tmpfs: { '/tmp': 'rw,exec,nosuid,nodev,size=16777216' },
    cpus: 1,
    memoryBytes: 64 * 1024 ** 2,
    pids: 32,
    shmBytes: 1024 ** 2,
    network: 'none',
    dns: [],
    runtime: null,
    ...more,
  }
}

async function run(more: Partial<ContainerSpec>) {
  const id = await engine.create(spec(more))
  made.push(id)
  await engine.start(id)
  return { id, exit: () => engine.exit(id, AbortSignal.timeout(30_000)) }
}

afterEach(async () => {
  for (const id of made.splice(0)) await engine.remove(id)
  expect(await engine.containers(`${LABELS.stack}=${mark}`)).toEqual([])
})

describe('the docker engine', () => {
  it('says what it is', async () => {
    expect(await engine.info()).toMatchObject({
      facts: { init: 'docker-init', memoryLimit: true, security: expect.arrayContaining(['seccomp']) },
      cpus: expect.any(Number),
      version: expect.any(String),
    })
  })

  it('tells an exit code, also long after the end', async () => {
    const { exit } = await run({ command: ['/bin/sh', '-c', 'exit 7'] })
    expect(await exit()).toMatchObject({ exitCode: 7, oomKilled: false })
    expect(await exit()).toMatchObject({ exitCode: 7 })
  })

  it('tells out of memory from any other 137', async () => {
    const hog = await run({ command: ['perl', '-e', 'my $x = "x" x (200 * 1024 * 1024)'] })
    expect(await hog.exit()).toMatchObject({ oomKilled: true })
    const killed = await run({ command: ['/bin/sh', '-c', 'kill -9 $$'] })
    expect(await killed.exit()).toMatchObject({ exitCode: 137, oomKilled: false })
  })

  it('ends one that ignores SIGTERM by SIGKILL', async () => {
    const { id, exit } = await run({ command: ['/bin/sh', '-c', `trap '' TERM; while :; do sleep 1; done`] })
    await engine.kill(id, 'SIGTERM')
    await engine.kill(id, 'SIGKILL')
    expect(await exit()).toMatchObject({ exitCode: 137 })
    await expect(engine.kill(id, 'SIGKILL')).resolves.toBeUndefined()
  })

  it('tells the signals that anybody sent through it', async () => {
    const { id, exit } = await run({ command: ['sleep', '600'] })
    expect(await engine.signalsTo(id)).toEqual([])
    await engine.kill(id, 'SIGTERM')
    expect(await exit()).toMatchObject({ exitCode: 143, lost: false })
    expect(await engine.signalsTo(id)).toEqual(['SIGTERM'])
  })

  it('tells what one uses, and null once it has ended', async () => {
    const { id, exit } = await run({ command: ['/bin/sh', '-c', 'echo x | sleep 600'] })
    expect(await engine.usage(id)).toMatchObject({
      figures: {
        cpuNs: expect.any(Number),
        memoryPeakBytes: expect.any(Number),
        pidsPeak: expect.any(Number),
      },
      network: null,
    })
    await engine.kill(id, 'SIGKILL')
    await exit()
    expect(await engine.usage(id)).toBeNull()
  })

  it('removes what runs, and twice', async () => {
    const { id, exit } = await run({ command: ['sleep', '600'] })
    const ended = exit().then(({ exitCode, lost }) => (lost ? 'lost' : exitCode))
    await engine.remove(id)
    await engine.remove(id)
    // Whether the engine still tells the exit of a container that it removes is a matter of microseconds.
    expect([137, 143, 'lost']).toContain(await ended)
  })

  it('knows an image that is not there, and what can not be pulled', async () => {
    expect(await engine.image('agirunner/no-such:1')).toBeNull()
    expect(await engine.image('agirunner/debian-base:1')).toMatchObject({
      id: expect.stringMatching(/^sha256:/),
    })
    const signal = AbortSignal.timeout(30_000)
    const options = { credentials: null, progress: () => undefined, idleMs: 20_000, signal }
    await expect(engine.pull('127.0.0.1:1/x:1', options)).rejects.toMatchObject({ code: 'image.pull_failed' })
    await expect(engine.pull('UPPER/x', options)).rejects.toMatchObject({ code: 'image.not_found' })
    await expect(engine.create(spec({ image: 'agirunner/no-such:1' }))).rejects.toMatchObject({
      code: 'image.not_found',
    })
  })

  it('says engine.unavailable when nothing listens', async () => {
    const nowhere = dockerEngine({ host: 'unix:///nowhere/docker.sock', tls: false })
    await expect(nowhere.info()).rejects.toMatchObject({ code: 'engine.unavailable' })
  })

  it('removes a volume that is not there', async () => {
    await expect(engine.removeVolume(`agirunner-test-${mark}`)).resolves.toBeUndefined()
  })
})

describe('an end that came before anybody waited for it', () => {
  let rig: PrivateEngine
  beforeAll(async () => {
    rig = await startPrivateEngine('agirunner/debian-base:1')
  }, 60_000)
  afterAll(async () => await rig.stop(), 60_000)

  async function begun(script: string): Promise<string> {
    const name = `agirunner-test-${randomBytes(4).toString('hex')}`
    const id = await own().create(spec({ name, command: ['/bin/sh', '-c', script] }))
    await own().start(id)
    return id
  }
  const own = () => dockerEngine({ host: rig.host, tls: false })
  const exitOf = (id: string) => own().exit(id, AbortSignal.timeout(30_000))

  it('is not believed where the engine has been restarted, whichever it ended first', async () => {
    const gentle = `trap 'exit 0' TERM; echo > /tmp/ready; while :; do sleep 0.05; done`
    const ids = [await begun(gentle), await begun(gentle), await begun(gentle)]
    for (const id of ids) {
      const look = () => execFileSync('docker', ['--host', rig.host, 'exec', id, 'cat', '/tmp/ready'])
      await eventually(look)
    }
    await rig.kill()
    await rig.resume()
    for (const id of ids) expect(await exitOf(id)).toMatchObject({ exitCode: 0, lost: true })
  }, 60_000)

  it('is believed where it has not, also when the engine has forgotten that time and another container lives', async () => {
    const other = await begun('sleep 600')
    const id = await begun('exit 7')
    expect(await exitOf(id)).toMatchObject({ exitCode: 7, lost: false })
    expect(await exitOf(id)).toMatchObject({ exitCode: 7, lost: false })
    const image = connectEngine(rig.host).getImage('agirunner/debian-base:1')
    for (let event = 0; event < 257; event += 1) await image.tag({ repo: 'other', tag: 'name' })
    expect(await exitOf(id)).toMatchObject({ exitCode: 7, lost: false })
    // The control: nothing else tells any more that it is the same engine.
    await own().remove(other)
    expect(await exitOf(id)).toMatchObject({ exitCode: 7, lost: true })
  }, 60_000)
})

describe('the body of a create', () => {
  it('has no key but these, whatever the spec says', () => {
    const evil = {
      ...spec(),
      Privileged: true,
      HostConfig: { Privileged: true },
      binds: ['/:/host'],
    } as ContainerSpec
    const body = createBody(evil)
    expect(Object.keys(body.HostConfig ?? {}).toSorted()).toEqual([
      'AutoRemove',
      'CapAdd',
      'CapDrop',
      'CgroupnsMode',
      'Init',
      'IpcMode',
      'LogConfig',
      'Memory',
      'MemorySwap',
      'Mounts',
      'NanoCpus',
      'NetworkMode',
      'OomScoreAdj',
      'PidsLimit',
      'ReadonlyRootfs',
      'RestartPolicy',
      'SecurityOpt',
      'ShmSize',
      'Tmpfs',
      'Ulimits',
    ])
    expect(body).not.toHaveProperty('Privileged')
  })
})
