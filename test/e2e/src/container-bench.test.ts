import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { connectEngine } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, type World } from './support.js'

/** What is read of `GET /containers/ID/json`. */
interface Inspected {
  readonly Config: { readonly Healthcheck?: { readonly Test: readonly string[] } }
  readonly ExecIDs: readonly string[] | null
  readonly Mounts: readonly {
    readonly Type: string
    readonly Source: string
    readonly Propagation?: string
  }[]
  readonly NetworkSettings: {
    readonly Ports: Readonly<Record<string, unknown>> | null
    readonly Networks: Readonly<Record<string, unknown>>
  }
  readonly HostConfig: Readonly<Record<string, unknown>> & {
    readonly SecurityOpt: readonly string[]
    readonly CapAdd: readonly string[] | null
    readonly CapDrop: readonly string[] | null
    readonly Ulimits: readonly { readonly Name: string; readonly Hard: number }[] | null
    readonly RestartPolicy: { readonly Name: string }
  }
  readonly processes: readonly string[]
  readonly dataDir: string
}

const isSmall = (value: unknown) => value === undefined || value === null || Object.keys(value).length === 0
const ROOT_CAPABILITIES = ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'SETUID', 'SETGID']
const option = ({ HostConfig: { SecurityOpt: options } }: Inspected, name: string) =>
  options.filter(one => one.split(/[=:]/)[0] === name)

/** Whether each check of section 5 holds, written anew. */
const CHECKS: Readonly<Record<string, (one: Inspected) => boolean>> = {
  '5.1': one => option(one, 'apparmor').length === 0,
  '5.2': one => option(one, 'label').length === 0,
  '5.3': ({ HostConfig: { CapAdd: added, CapDrop: dropped } }) =>
    (dropped ?? []).includes('ALL') &&
    (added ?? []).every(name => ROOT_CAPABILITIES.includes(name.replace(/^CAP_/, ''))),
  '5.4': ({ HostConfig: host }) => host.Privileged === false,
  '5.5': ({ Mounts: mounts, dataDir }) =>
    mounts.every(({ Type: type, Source: source }) => type === 'volume' || source.startsWith(`${dataDir}/`)),
  '5.6': ({ processes }) => !processes.some(process => /\bsshd\b/.test(process)),
  '5.7': ({ HostConfig: host }) => isSmall(host.PortBindings),
  '5.8': ({ NetworkSettings: { Ports: ports }, HostConfig: host }) =>
    isSmall(ports) && host.PublishAllPorts === false,
  '5.9': ({ HostConfig: host }) => host.NetworkMode !== 'host',
  '5.10': ({ HostConfig: host }) => Number(host.Memory) > 0 && host.MemorySwap === host.Memory,
  '5.11': ({ HostConfig: host }) => Number(host.NanoCpus) > 0,
  '5.12': ({ HostConfig: host }) => host.ReadonlyRootfs === true,
  '5.13': ({ HostConfig: host }) => isSmall(host.PortBindings),
  '5.14': ({ HostConfig: { RestartPolicy: policy } }) => policy.Name === 'no',
  '5.15': ({ HostConfig: host }) => host.PidMode === '',
  '5.16': ({ HostConfig: host }) => host.IpcMode === 'private',
  '5.17': ({ HostConfig: host }) =>
    isSmall(host.Devices) && isSmall(host.DeviceRequests) && isSmall(host.DeviceCgroupRules),
  '5.18': ({ HostConfig: { Ulimits: limits } }) =>
    (limits ?? []).every(({ Name: name, Hard: hard }) =>
      name === 'core' ? hard === 0 : name === 'nofile' && hard === 4096,
    ),
  '5.19': ({ Mounts: mounts }) =>
    mounts.every(({ Propagation: how = '' }) => ['', 'private', 'rprivate', 'rslave'].includes(how)),
  '5.20': ({ HostConfig: host }) => host.UTSMode === '',
  '5.21': one => {
    const [profile = ''] = option(one, 'seccomp')
    return /"defaultAction"\s*:\s*"SCMP_ACT_ERRNO"/.test(profile)
  },
  '5.22': ({ ExecIDs: execs }) => isSmall(execs),
  '5.23': ({ ExecIDs: execs }) => isSmall(execs),
  '5.24': ({ HostConfig: host }) => host.CgroupParent === '',
  '5.25': one => option(one, 'no-new-privileges').length === 1,
  '5.26': ({ Config: { Healthcheck: check } }) => check !== undefined && check.Test[0] !== 'NONE',
  // What a registry has by now can't be seen in a container.
  '5.27': () => false,
  '5.28': ({ HostConfig: host }) => Number(host.PidsLimit) > 0,
  '5.29': ({ NetworkSettings: { Networks: networks } }) => !Object.keys(networks).includes('bridge'),
  '5.30': ({ HostConfig: host }) => host.UsernsMode !== 'host',
  '5.31': ({ Mounts: mounts }) =>
    !mounts.some(({ Source: source }) => /docker\.sock|podman\.sock/.test(source)),
}

const README = fileURLToPath(new URL('../../../apps/worker/README.md', import.meta.url))

/** The table of the worker's README: what it says of each check for both profiles, and why. */
function documented(): { check: string; user: string; root: string; why: string }[] {
  const rows = readFileSync(README, 'utf8').matchAll(/^\| (5\.\d+) +\|[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|$/gm)
  return [...rows].map(([, check = '', user = '', root = '', why = '']) => ({
    check,
    user: user.trim(),
    root: root.trim(),
    why: why.trim(),
  }))
}

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.startWorker()
})
afterAll(async () => await world.close())

async function inspectTask(environment: object): Promise<Inspected> {
  const taskId = newTaskId('bench')
  await world.producer.enqueue({ taskId, environment, run: { script: 'echo started; sleep 600' } })
  for await (const entry of world.producer.logs(taskId, { follow: true }))
    if (entry.text.includes('started')) break
  const container = connectEngine().getContainer(`agirunner-${taskId}-1`)
  const [inspected, { Processes: processes }] = await Promise.all([container.inspect(), container.top()])
  await world.producer.cancel(taskId)
  await world.producer.waitForResult(taskId)
  const lines = (processes as string[][]).map(process => process.join(' '))
  return { ...(inspected as unknown as Inspected), processes: lines, dataDir: world.dataDir }
}

const verdicts = (one: Inspected) =>
  Object.fromEntries(Object.entries(CHECKS).map(([check, holds]) => [check, holds(one) ? 'holds' : 'waived']))

describe('the container checks of section 5', () => {
  it.each([
    ['user', 'none'],
    ['user', 'open'],
    ['root', 'allowlist'],
  ] as const)('are as documented for profile %s, network %s', async (profile, mode) => {
    const network = mode === 'allowlist' ? { mode, hosts: ['packages.example.com'] } : { mode }
    const found = await inspectTask({ profile, network })
    expect(verdicts(found)).toEqual(Object.fromEntries(documented().map(row => [row.check, row[profile]])))
  })

  it('are documented each, and waived with a reason', () => {
    const rows = documented()
    expect(rows.map(({ check }) => check)).toEqual(Array.from({ length: 31 }, (_, i) => `5.${i + 1}`))
    for (const { user, root, why } of rows) if (user !== 'holds' || root !== 'holds') expect(why).not.toBe('')
  })

  it('fail for a container without the defences', async () => {
    const engine = connectEngine()
    const container = await engine.createContainer({
      Image: process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1',
      Cmd: ['sleep', '600'],
      HostConfig: {
        Privileged: true,
        PidMode: 'host',
        IpcMode: 'host',
        UTSMode: 'host',
        NetworkMode: 'host',
        UsernsMode: 'host',
        SecurityOpt: ['seccomp=unconfined', 'apparmor=unconfined', 'label=disable'],
        Binds: ['/var/run:/host-run:ro,rshared', '/var/run/docker.sock:/docker.sock:ro'],
      },
    })
    try {
      const inspected = (await container.inspect()) as unknown as Inspected
      const bad = verdicts({ ...inspected, processes: [], dataDir: world.dataDir })
      const failing = Object.entries(bad).flatMap(([check, verdict]) => (verdict === 'holds' ? [] : [check]))
      expect(failing).toEqual(
        expect.arrayContaining(
          [
            '1',
            '2',
            '3',
            '4',
            '5',
            '9',
            '10',
            '11',
            '12',
            '15',
            '16',
            '19',
            '20',
            '21',
            '25',
            '28',
            '30',
            '31',
          ].map(number => `5.${number}`),
        ),
      )
    } finally {
      await container.remove({ force: true })
    }
  })
})
