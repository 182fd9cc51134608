import { existsSync } from 'node:fs'
import type { TaskInput, TaskResult } from '@agirunner/contracts'
import { serveRegistry, type TestRegistry } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type DerivedImage, deriveImage, docker } from './derived-image.js'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

let world: World
let registry: TestRegistry
const images: DerivedImage[] = []

beforeAll(async () => {
  world = await createWorld()
  registry = await serveRegistry()
  await world.startWorker()
})
afterAll(async () => {
  await world.close()
  await registry.close()
  for (const image of images) image.remove()
})

function derive(...args: Parameters<typeof deriveImage>): string {
  const image = deriveImage(...args)
  images.push(image)
  return image.name
}

async function run(
  image: string,
  script: string,
  environment: TaskInput['environment'] = {},
): Promise<{ result: TaskResult; stdout: string }> {
  const taskId = newTaskId('image')
  await world.producer.enqueue({ taskId, run: { script }, environment: { ...environment, image } })
  const result = await world.producer.waitForResult(taskId)
  return { result, stdout: (await readLogs(world.producer, taskId)).stdout }
}

/** What a link that led out of a container would have made on this machine. */
const OUTSIDE = ['/etc/repo', '/etc/output', '/etc/context', '/etc/agirunner', '/var/lib/agent', '/nowhere']

describe.each(['user', 'root'] as const)('an image with other folders, profile %s', profile => {
  it.each([
    ['/workspace is a link to a folder of its own', 'rm -rf /workspace && ln -s /etc /workspace'],
    ['/workspace is a link that climbs', 'rm -rf /workspace && ln -s ../../../../../../etc /workspace'],
    ['/workspace is a link to nowhere', 'rm -rf /workspace && ln -s /nowhere/at/all /workspace'],
    ['/home is a link', 'rm -rf /home && ln -s /var/lib /home'],
    ['/run is a link', 'rm -rf /run && ln -s /etc /run'],
  ])(
    '%s: runs tasks in itself',
    async (_name, files) => {
      const script =
        'pwd; echo 1 >mine.txt && cat /workspace/repo/mine.txt; echo 2 >"$HOME/x" && cat /home/agent/x'
      const { result, stdout } = await run(derive({ files }), script, { profile })
      expect(result).toMatchObject({ status: 'succeeded', changes: { files: [{ path: 'repo/mine.txt' }] } })
      expect(stdout).toBe('/workspace/repo\n1\n2\n')
      expect(OUTSIDE.filter(path => existsSync(path))).toEqual([])
    },
    60_000,
  )

  it.each([
    ['/workspace is a file', 'rm -rf /workspace && echo file >/workspace'],
    ['/workspace is a circle', 'rm -rf /workspace && ln -s /workspace /workspace'],
    ['/bin/sh is a folder', 'rm /bin/sh && mkdir /bin/sh'],
  ])(
    '%s: is incompatible',
    async (_name, files) => {
      const { result } = await run(derive({ files }), 'true', { profile })
      expect(result).toMatchObject({ failure: { code: 'image.incompatible' }, attempts: [{ attempt: 1 }] })
    },
    60_000,
  )
})

describe('an image whose container can not be started', () => {
  it('ends the task after a few attempts that cost nothing', async () => {
    // Some versions of runc say that this is in /proc, others stumble over what they mounted there.
    const image = derive({ files: 'rm -rf /tmp && ln -s /proc/self /tmp' })
    const { result } = await run(image, 'true')
    expect(result.failure?.code).toMatch(/^(container\.start_failed|image\.incompatible)$/)
    expect(result.attempts).toHaveLength(result.failure?.code === 'image.incompatible' ? 1 : 3)
  }, 60_000)
})

describe('what an image says of how it is to be run', () => {
  let image: string
  beforeAll(() => {
    image = derive({
      files: 'mkdir -p /data /srv/deep && echo content >/data/file && chmod 777 /data',
      instructions: [
        'ENTRYPOINT ["/bin/false"]',
        'CMD ["nothing"]',
        'VOLUME /data',
        'VOLUME /srv/deep/er',
        'USER nobody',
        'WORKDIR /etc',
        'ENV LD_PRELOAD=/nowhere.so',
        'ENV AGIRUNNER_TASK_ID=evil',
        'ENV OWN=kept',
        'LABEL agirunner.worker=w-1-1-evil agirunner.host=evil',
        'HEALTHCHECK --interval=1s CMD touch /workspace/output/checked',
      ],
    })
  }, 60_000)

  it('would be done by the engine itself', () => {
    // The control: a volume of the engine's own, which no limit bounds, though the root file system is read-only.
    const script = 'echo x >/data/x && cat /data/file'
    const args = ['--entrypoint', '/bin/sh', '--read-only', '--user', '10001:10001', '--network', 'none']
    expect(docker('run', '--rm', ...args, image, '-c', script)).toContain('content')
  })

  it('does not bind the runtime', async () => {
    const script = 'id -u; pwd; echo "$OWN $AGIRUNNER_TASK_ID"; sleep 2; ls -A /workspace/output'
    const { result, stdout } = await run(image, script)
    expect(result.status).toBe('succeeded')
    expect(stdout.trimEnd().split('\n')).toEqual(['10001', '/workspace/repo', `kept ${result.taskId}`])
  }, 60_000)

  it('makes no volume: what is written there counts as memory and is bounded', async () => {
    const script = `
      ls -A /data /srv/deep/er
      grep -E ' (/data|/srv/deep/er) ' /proc/mounts | cut -d' ' -f2,3
      dd if=/dev/zero of=/data/big bs=1M count=3 2>&1 | grep -o 'No space.*'`
    const { result, stdout } = await run(image, script, { resources: { tmp: '1m' } })
    expect(result.exit?.code).toBe(0)
    expect(stdout.split('\n').filter(Boolean).toSorted()).toEqual([
      '/data tmpfs',
      '/data:',
      '/srv/deep/er tmpfs',
      '/srv/deep/er:',
      'No space left on device',
    ])
  }, 60_000)

  it.each(['PATH=/nowhere', 'PATH='])(
    '%s leaves nothing to run',
    async variable => {
      const { result } = await run(derive({ instructions: [`ENV ${variable}`] }), 'true')
      expect(result.failure).toMatchObject({
        code: 'image.incompatible',
        message: expect.stringContaining('env'),
      })
    },
    60_000,
  )
})

describe('an image that asks for what no container can have', () => {
  const bad: [string, Record<string, unknown>][] = [
    ['a volume over /proc', { Volumes: { '/proc': {} } }],
    ['a volume over everything', { Volumes: { '/': {} } }],
    ['a volume without a place', { Volumes: { 'relative/../path': {} } }],
    ['a volume with options in its name', { Volumes: { '/data\nx': {} } }],
    [
      'a thousand volumes',
      { Volumes: Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`/v${i}`, {}])) },
    ],
    ['a long variable', { Env: [`A=${'x'.repeat(200_000)}`] }],
    ['many variables', { Env: Array.from({ length: 40 }, (_, i) => `A${i}=${'x'.repeat(50_000)}`) }],
  ]
  it.each(bad)(
    '%s is incompatible',
    async (_name, config) => {
      registry.publish('acme/bad', '1', { layers: [Buffer.alloc(10_240)], config })
      const image = `${registry.host}/acme/bad:1`
      const { result } = await run(image, 'true', { pullPolicy: 'always' })
      docker('rmi', '-f', image)
      expect(result).toMatchObject({
        failure: { code: 'image.incompatible', phase: 'image' },
        attempts: [{ attempt: 1 }],
        container: null,
      })
    },
    60_000,
  )

  it('another platform is incompatible, and said to be that', async () => {
    const platform = 'linux/s390x'
    registry.publish('acme/other', '1', { layers: [Buffer.alloc(10_240)], platform })
    const image = `${registry.host}/acme/other:1`
    const { result } = await run(image, 'true')
    docker('rmi', '-f', image)
    expect(result.failure).toMatchObject({
      code: 'image.incompatible',
      message: expect.stringContaining('it is made for linux/s390x'),
    })
  }, 60_000)
})
