import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { hostOf, importNodeImage, machineRegistries, ownRegistries, type Registries } from './registries.js'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

const BUILD_MS = 180_000
const machine = await machineRegistries()
// Last, because nothing but the end of the tests takes it away.
const own = await ownRegistries()
const all: readonly Registries[] = machine === null ? [own] : [own, machine]

let world: World
let image: Awaited<ReturnType<typeof importNodeImage>>

beforeAll(async () => {
  world = await createWorld()
  image = await importNodeImage()
  await world.startWorker({ AGIRUNNER_EGRESS_PRIVATE: all.flatMap(one => one.private).join(',') })
})
afterAll(async () => {
  await world.close()
  await image.remove()
  await own.close()
})

type Environment = NonNullable<TaskInput['environment']>
type Ended = { result: TaskResult; output: string; denied: unknown[] }

async function run(task: Omit<TaskInput, 'taskId'>): Promise<Ended> {
  const taskId = newTaskId('n')
  await world.producer.enqueue({ limits: { timeout: 150 }, ...task, taskId })
  const result = await world.producer.waitForResult(taskId)
  const { stdout, stderr } = await readLogs(world.producer, taskId)
  const denied: unknown[] = []
  for await (const event of world.producer.events(taskId, { follow: true })) {
    if (event.type === 'egress.denied') denied.push(event.data)
  }
  return { result, output: stdout + stderr, denied }
}

function npmInstall(registries: Registries, network: Environment['network']): Promise<Ended> {
  const { url, package: name } = registries.npm
  const ca = '/workspace/context/ca.pem'
  return run({
    workspace: { files: [{ path: 'context/ca.pem', text: registries.ca }] },
    environment: {
      image: image.name,
      network,
      env: {
        npm_config_registry: url,
        npm_config_fetch_retries: '0',
        ...(registries.ca === '' ? {} : { NODE_EXTRA_CA_CERTS: ca }),
      },
      resources: { memory: '1Gi' },
    },
    run: {
      script: `node /opt/npm/bin/npm-cli.js install --no-audit --no-fund ${name} && ls -d node_modules/*`,
    },
  })
}

function aptInstall({ apt }: Registries, network: Environment['network']): Promise<Ended> {
  const sources =
    apt.sources === ''
      ? 'true'
      : `rm -rf /etc/apt/sources.list.d; echo '${apt.sources}' >/etc/apt/sources.list`
  const install = `apt-get install -y --no-install-recommends ${apt.package}`
  return run({
    environment: { profile: 'root', network },
    run: {
      script: `${sources}; apt-get -o APT::Update::Error-Mode=any update && ${install} && dpkg -s ${apt.package}`,
    },
  })
}

describe.each(all)('a build with $name', registries => {
  const npmHosts = [hostOf(registries.npm.url)]
  const aptHosts = [...new Set(registries.apt.urls.map(hostOf))]

  it(
    'installs with npm through an allowlist of the one host',
    async () => {
      const { result, output } = await npmInstall(registries, { mode: 'allowlist', hosts: npmHosts })
      expect({ status: result.status, output }).toMatchObject({ status: 'succeeded' })
      expect(output).toContain(`node_modules/${registries.npm.package}`)
      expect(result.egressDenied).toEqual([])
      expect(result.usage.networkRxBytes).toBeGreaterThan(100)
    },
    BUILD_MS,
  )

  it(
    'does not, and says why, where the host is missing',
    async () => {
      const { result, output, denied } = await npmInstall(registries, {
        mode: 'allowlist',
        hosts: ['missing.example'],
      })
      expect(result.status).toBe('failed')
      expect(output).toContain('403')
      const [host, port] = [new URL(registries.npm.url).hostname, portOf(registries.npm.url)]
      expect(result.egressDenied).toEqual([{ host, port, count: expect.any(Number) }])
      expect(denied).toEqual([{ host, port }])
    },
    BUILD_MS,
  )

  it(
    'installs with apt, as root, through an allowlist',
    async () => {
      const { result, output } = await aptInstall(registries, { mode: 'allowlist', hosts: aptHosts })
      expect({ status: result.status, output }).toMatchObject({ status: 'succeeded' })
      expect(output).toContain('install ok installed')
      expect(result.egressDenied).toEqual([])
    },
    BUILD_MS,
  )

  it(
    'does not with apt either, and says why, where a host is missing',
    async () => {
      const { result, output } = await aptInstall(registries, {
        mode: 'allowlist',
        hosts: ['missing.example'],
      })
      expect(result.status).toBe('failed')
      expect(output).toMatch(/403 +Forbidden/)
      expect(result.egressDenied.map(({ host }) => host)).toEqual(
        expect.arrayContaining(registries.apt.urls.map(url => new URL(url).hostname)),
      )
    },
    BUILD_MS,
  )

  it(
    'installs in mode open, by both',
    async () => {
      const npm = await npmInstall(registries, { mode: 'open' })
      expect({ status: npm.result.status, output: npm.output }).toMatchObject({ status: 'succeeded' })
      const apt = await aptInstall(registries, { mode: 'open' })
      expect({ status: apt.result.status, output: apt.output }).toMatchObject({ status: 'succeeded' })
    },
    BUILD_MS,
  )

  it(
    'installs nothing in mode none',
    async () => {
      expect((await npmInstall(registries, { mode: 'none' })).result.status).toBe('failed')
      expect((await aptInstall(registries, { mode: 'none' })).result.status).toBe('failed')
    },
    BUILD_MS,
  )
})

describe('git and curl', () => {
  const script = `git clone -q ${own.git} /tmp/clone && cat /tmp/clone/cloned.txt; curl -fsS ${own.git}/HEAD`

  it('go through the proxy as they are', async () => {
    const { result, output } = await run({
      environment: { network: { mode: 'allowlist', hosts: [hostOf(own.git)] } },
      run: { script },
    })
    expect(output).toBe('cloned and there\nref: refs/heads/main\n')
    expect(result.status).toBe('succeeded')
  })

  it('do not where the task sets its own proxy', async () => {
    const { result, output } = await run({
      environment: {
        network: { mode: 'allowlist', hosts: [hostOf(own.git)] },
        env: { HTTP_PROXY: 'http://127.0.0.1:9' },
      },
      run: { script: `env | grep -i http_proxy; ${script}` },
    })
    expect(output).toMatch(/^HTTP_PROXY=http:\/\/127.0.0.1:9\n/)
    expect(output).not.toContain('http_proxy=')
    expect(output).not.toContain('cloned')
    expect(result.status).toBe('failed')
  })
})

function portOf(url: string): number {
  const { port, protocol } = new URL(url)
  return Number(port) || (protocol === 'https:' ? 443 : 80)
}
