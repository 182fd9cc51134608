import { existsSync, readFileSync } from 'node:fs'
import { parseTask, SpecError, type Task, TaskFailure } from '@agirunner/contracts'
import { describe, expect, it } from '@jest/globals'
import { bodyCheck } from '../engine/docker/allowed-body.js'
import { createBody } from '../engine/docker/body.js'
import type { EngineInfo, ImageInfo } from '../engine/engine.js'
import { containerSpec } from '../execution/container-spec.js'
import type { TaskNetwork } from '../execution/network/networks.js'
import { refuseUnsupported } from '../execution/unsupported.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import type { WorkspacePlan } from '../workspace/plan.js'

const SPECS = 1000
const DATA = '/srv/agirunner'
const FULL = JSON.parse(
  readFileSync(new URL('../../../../packages/contracts/fixtures/v1/task-full.json', import.meta.url), 'utf8'),
) as Record<string, unknown>

/** Keys of the engine's body that give power over the host, as a task might try to name them. */
const POWERS: readonly (readonly [string, unknown])[] = [
  ['Privileged', true],
  ['Binds', ['/:/host']],
  ['Devices', [{ PathOnHost: '/dev/sda', PathInContainer: '/dev/sda', CgroupPermissions: 'rwm' }]],
  ['DeviceRequests', [{ Count: -1, Capabilities: [['gpu']] }]],
  ['DeviceCgroupRules', ['a *:* rwm']],
  ['CapAdd', ['SYS_ADMIN']],
  ['PidMode', 'host'],
  ['IpcMode', 'host'],
  ['UTSMode', 'host'],
  ['UsernsMode', 'host'],
  ['CgroupnsMode', 'host'],
  ['NetworkMode', 'host'],
  ['SecurityOpt', ['seccomp=unconfined']],
  ['VolumesFrom', ['other']],
  ['VolumeDriver', 'evil'],
  ['MaskedPaths', []],
  ['ReadonlyPaths', []],
  ['GroupAdd', ['0']],
  ['Links', ['redis']],
  ['PortBindings', { '22/tcp': [{ HostPort: '22' }] }],
  ['PublishAllPorts', true],
  ['ExtraHosts', ['a:127.0.0.1']],
  ['OomKillDisable', true],
  ['KernelMemory', 1],
  ['CpuRealtimeRuntime', 1],
  ['Isolation', 'process'],
  ['StorageOpt', { size: '1T' }],
  ['ContainerIDFile', '/etc/passwd'],
  ['AutoRemove', true],
  ['Mounts', [{ Type: 'bind', Source: '/', Target: '/host' }]],
]

/** The same numbers for the same seed (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const HOSTILE_VALUES: readonly unknown[] = [
  '/var/run/docker.sock',
  '../../../../etc',
  '/',
  'host',
  '--privileged',
  '0:0',
  '/workspace/../../etc',
  '$(id)',
  '`id`',
  'a,b:c=d',
  'rw,exec,suid,dev',
  'x\nUser: root',
  '\u202e\u0000',
  'container:other',
  '9'.repeat(400),
  '-1',
  '1e309',
  '8Ei',
  '6m',
  -1,
  0,
  1,
  6 * 2 ** 20,
  2 ** 53,
  1e308,
  0.01,
  true,
  null,
  [],
  {},
  [[]],
  ['SYS_ADMIN'],
  { mode: 'host' },
  { mode: 'open' },
  { Privileged: true },
]

type Json = Record<string, unknown> | unknown[]

/** One spec that somebody made up who wants more than a task has. */
function hostileSpec(seed: number): unknown {
  const next = numbers(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T
  const spec = structuredClone(FULL)
  // What no worker supports yet would hide everything behind it.
  ;(spec.capture as Record<string, unknown>).push = null
  ;(spec.capture as Record<string, unknown>).artifacts = []
  ;(spec.environment as Record<string, unknown>).secrets = {}
  for (let changes = 1 + Math.floor(next() * 4); changes > 0; changes -= 1) mutate(spec, next, pick)
  return spec
}

function mutate(spec: Json, next: () => number, pick: <T>(list: readonly T[]) => T): void {
  const places = placesIn(spec)
  const place = pick(places)
  const keys = Object.keys(place)
  const kind = next()
  if (kind < 0.25) {
    const [key, value] = pick(POWERS)
    set(place, key, value)
  } else if (kind < 0.35)
    set(place, pick(['HostConfig', 'hostConfig', 'host_config']), Object.fromEntries(POWERS))
  else if (kind < 0.45) {
    const [key, value] = pick(POWERS)
    set(place, pick(['__proto__', 'constructor', 'prototype']), { [key]: value })
  } else if (keys.length > 0) set(place, pick(keys), pick(HOSTILE_VALUES))
}

function set(place: Json, key: string, value: unknown): void {
  const own = { value: structuredClone(value), enumerable: true, configurable: true, writable: true }
  Object.defineProperty(place, key, own)
}

function placesIn(value: unknown): Json[] {
  if (typeof value !== 'object' || value === null) return []
  return [value as Json, ...Object.values(value).flatMap(placesIn)]
}

const PART = (part: string) => ({ type: 'bind', source: `${DATA}/slots/1/${part}` }) as const
const PLAN = {
  slot: { id: '1' },
  owner: { uid: 10_001, gid: 10_001 },
  readOnly: false,
  delivery: {
    mounts: {
      repo: { type: 'volume', source: 'agirunner-1' },
      context: PART('context'),
      output: PART('output'),
      home: PART('home'),
      log: PART('log'),
      gate: PART('gate'),
    },
  },
} as unknown as WorkspacePlan
const OWNER = { worker: 'w-1-1-a', host: 'host', stack: 'stack' }
const IMAGE: ImageInfo = { id: 'sha256:1', repoDigests: [], platform: 'linux/amd64', env: [], volumes: [] }
const ENGINE = { cpus: 2, facts: { runtimes: ['runc'] } } as unknown as EngineInfo
const networkOf = ({ environment }: Task): TaskNetwork => ({
  name: environment.network.mode === 'none' ? 'none' : 'agirunner-1-l1',
  dns: environment.network.mode === 'allowlist' ? ['127.0.0.1'] : [],
  env: {},
  egress: () => Promise.reject(new Error('there is none')),
  release: () => Promise.resolve(),
})

/** From what somebody sent to what the engine would be sent, as the worker does it. */
function bodyOf(sent: unknown): unknown {
  const task = parseTask(JSON.parse(JSON.stringify(sent)))
  const accepted = { task, attempt: 1 } as unknown as AcceptedTask
  refuseUnsupported(accepted, { allowRootProfile: true, allowedRuntimes: ['runc'], info: ENGINE })
  const plan = task.environment.profile === 'root' ? { ...PLAN, owner: { uid: 0, gid: 0 } } : PLAN
  const options = {
    owner: OWNER,
    engine: ENGINE,
    image: IMAGE,
    reference: 'debian-base',
    network: networkOf(task),
  }
  return createBody(containerSpec(accepted, plan, options))
}

const check = bodyCheck({ bindRoots: [DATA], runtimes: ['runc'] })

describe(`${SPECS} hostile specs`, () => {
  it('are refused, or give a body of which every key and value is allowed', () => {
    const outcomes = { refused: 0, allowed: 0 }
    for (let seed = 1; seed <= SPECS; seed += 1) {
      try {
        const body = bodyOf(hostileSpec(seed))
        expect({ seed, body: check(body) }).toEqual({ seed, body: JSON.parse(JSON.stringify(body)) })
        outcomes.allowed += 1
      } catch (error) {
        const refused =
          error instanceof SpecError ||
          (error instanceof TaskFailure && error.code !== 'container.create_failed')
        if (!refused) throw new Error(`seed ${seed}: ${String(error)}`, { cause: error })
        outcomes.refused += 1
      }
    }
    // Both ways were taken often, else this would show nothing.
    expect(outcomes.refused).toBeGreaterThan(SPECS / 10)
    expect(outcomes.allowed).toBeGreaterThan(SPECS / 20)
    expect(({} as Record<string, unknown>).Privileged).toBeUndefined()
    expect(existsSync('/host')).toBe(false)
  })
})

describe('the last look at a body', () => {
  const good = () => JSON.parse(JSON.stringify(bodyOf({ taskId: 't', run: { script: 'true' } }))) as Body
  interface Body extends Record<string, unknown> {
    HostConfig: Record<string, unknown>
  }

  it('lets a body of the runtime pass', () => {
    expect(check(good())).toEqual(good())
  })

  it.each(POWERS)('stops HostConfig.%s', (key, value) => {
    const body = good()
    body.HostConfig[key] = value
    expect(() => check(body)).toThrow(new RegExp(`HostConfig\\.${key}`))
  })

  it.each([
    ['User', 'root'],
    ['Entrypoint', ['/bin/sh']],
    ['Volumes', { '/x': {} }],
    ['ExposedPorts', { '22/tcp': {} }],
    ['NetworkingConfig', {}],
    ['Tty', true],
    ['Hostname', 'host'],
  ] as const)('stops %s', (key, value) => {
    expect(() => check({ ...good(), [key]: value })).toThrow(new RegExp(key))
  })

  it.each([
    ['a folder of the host', { Source: '/etc' }],
    ['the data folder itself', { Source: DATA }],
    ['a way out of the data folder', { Source: `${DATA}/../../etc` }],
    ['a place over the programs', { Target: '/usr/bin' }],
    ['propagation', { BindOptions: { Propagation: 'rshared' } }],
  ] as const)('stops a mount of %s', (_what, change) => {
    const body = good()
    const [, mount] = body.HostConfig.Mounts as Record<string, unknown>[]
    Object.assign(mount ?? {}, change)
    expect(() => check(body)).toThrow(/Mounts/)
  })
})
