import { readFileSync } from 'node:fs'
import { parseTask, SpecError, type Task, TaskFailure } from '@agirunner/contracts'
import { expect, test } from '@jest/globals'
import { bodyCheck } from '../engine/docker/allowed-body.js'
import { createBody } from '../engine/docker/body.js'
import { DummyEngine } from '../engine/dummy/dummy-engine.js'
import { containerName, containerSpec } from '../execution/container-spec.js'
import type { TaskNetwork } from '../execution/network/networks.js'
import { refuseProfile } from '../execution/profiles.js'
import { shapeOf } from '../execution/shape.js'
import { Redactor } from '../support/redactor.js'
import { PARTS, type WorkspacePlan } from '../workspace/plan.js'

type Json = Record<string, unknown>

const FULL = JSON.parse(
  readFileSync(new URL('../../../../packages/contracts/fixtures/v1/task-full.json', import.meta.url), 'utf8'),
) as Json
const SPECS = 1000
const SEED = 20_260_101
/** In every hostile value: where it turns up, a task's text did. */
const MARK = 'h0st1le'

/** A random number generator with a seed, after Marsaglia's xorshift32. */
function randomOf(seed: number) {
  let state = seed
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
  return {
    below: (end: number) => Math.floor(next() * end),
    of: <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T,
  }
}
type Random = ReturnType<typeof randomOf>

/** What somebody would like the engine to read, under the engine's names and under ours. */
const KEYS = [
  'HostConfig',
  'hostConfig',
  'Privileged',
  'privileged',
  'Binds',
  'binds',
  'Mounts',
  'mounts',
  'CapAdd',
  'capabilities',
  'Devices',
  'SecurityOpt',
  'NetworkMode',
  'PidMode',
  'UsernsMode',
  'CgroupParent',
  'Runtime',
  'Sysctls',
  'Tmpfs',
  'tmpfs',
  'User',
  'user',
  'readOnlyRoot',
  'Env',
  'Entrypoint',
  'Labels',
  'name',
  '_body',
  '_query',
  '__proto__',
  'constructor',
  'prototype',
  'toJSON',
  'then',
]
const VALUES: readonly unknown[] = [
  `/${MARK}:/host`,
  `../../${MARK}`,
  `/workspace/../../${MARK}`,
  `${MARK}\u0000.`,
  `${MARK}\n--privileged`,
  `${MARK}\u202e\u200b\ud800`,
  `/proc/self/${MARK}`,
  `/var/run/docker.sock?${MARK}`,
  `${MARK},exec,suid,dev,size=0`,
  `${MARK}`.repeat(5000),
  'host',
  'container:other',
  'unconfined',
  'ALL',
  'root',
  '0',
  '0:0',
  '1e999',
  '999999999999999999t',
  '0b',
  '',
  true,
  false,
  null,
  0,
  -0,
  -1,
  0.000_1,
  1e308,
  Number.MAX_SAFE_INTEGER,
  2 ** 53,
  2 ** 63,
  [],
  {},
  [`/${MARK}:/host`],
  ['SYS_ADMIN'],
  [[['deep', [MARK]]]],
  { Privileged: true, Binds: [`/${MARK}:/host`] },
  { Name: 'always' },
  { mode: 'host' },
  { mode: 'open', Privileged: true },
]

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Every object and array of a task, whatever its depth. */
function nodesOf(value: unknown, into: object[] = []): object[] {
  if (typeof value !== 'object' || value === null) return into
  into.push(value)
  for (const part of Object.values(value)) nodesOf(part, into)
  return into
}

/** Sets an own key, also `__proto__`, as JSON text would. */
function put(node: object, key: string, value: unknown): void {
  Object.defineProperty(node, key, { value, enumerable: true, configurable: true, writable: true })
}

function mutate(task: Json, random: Random): void {
  const node = random.of(nodesOf(task))
  const keys = Object.keys(node)
  const key = random.of(keys.length > 0 ? keys : ['x'])
  const old = (node as Json)[key]
  const kinds: readonly (() => void)[] = [
    () => put(node, random.of(KEYS), structuredClone(random.of(VALUES))),
    () => put(node, key, structuredClone(random.of(VALUES))),
    () => put(node, key, [old]),
    () => put(node, key, { [random.of(KEYS)]: old }),
    () => Reflect.deleteProperty(node, key),
    () => isObject(node) && put(node, `${key}${random.of(['\u0000', ' ', '/../', '\u200b'])}`, old),
  ]
  random.of(kinds)()
}

/** Values that may be at their places, and tempt. */
function tempt(task: Json, random: Random): void {
  const { environment } = task as { environment: Json & { resources: Json } }
  const kinds: readonly (() => void)[] = [
    () => put(environment, 'image', random.of([MARK, `${MARK}/../x:1`, '-v/:/host', `x@sha256:${MARK}`])),
    () => put(environment, 'network', random.of(['none', 'open', 'host', { mode: 'container:x' }])),
    () => put(environment, 'profile', random.of(['root', 'user', 'admin', ['root']])),
    () => put(environment, 'runtime', random.of(['runc', 'allowed', `../${MARK}`, MARK, null])),
    () => put(environment, 'env', { [random.of(['LD_PRELOAD', 'PATH', 'A=B', '__proto__'])]: `/${MARK}.so` }),
    () => {
      const name = random.of(['cpu', 'memory', 'pids', 'disk', 'tmp', 'shm'])
      put(
        environment.resources,
        name,
        random.of([0, 1, 4, 0.5, '4k', '6m', '1e3', -1, 2 ** 40, '8191t', '0']),
      )
    },
    () => put(task, 'labels', { [random.of(['agirunner.managed', 'x'])]: MARK }),
    () => put(task, 'taskId', random.of(['a', `T-${'x'.repeat(62)}`, `a/../${MARK}`, `a${MARK}`])),
  ]
  random.of(kinds)()
}

function hostile(random: Random): unknown {
  const task = structuredClone(FULL)
  const times = 1 + random.below(3)
  for (let done = 0; done < times; done += 1) {
    if (random.below(2) === 0 && isObject(task.environment) && isObject(task.environment.resources))
      tempt(task, random)
    else mutate(task, random)
  }
  // As it comes over Redis, and as a caller hands it over.
  return random.below(2) === 0 ? JSON.stringify(task) : task
}

const SLOT = '/data/slots/1'
const plan = {
  slot: { id: '1', memory: `${SLOT}/memory` },
  readOnly: false,
  owner: { uid: 10_001, gid: 10_001 },
  delivery: {
    mounts: Object.fromEntries(PARTS.map(part => [part, { type: 'bind', source: `${SLOT}/${part}` }])),
  },
} as unknown as WorkspacePlan
const owner = { worker: 'w-1-0-test', host: 'test', stack: 'test' }
const info = await new DummyEngine().info()
const withRuntime = { ...info, facts: { ...info.facts, runtimes: ['runc', 'allowed'] } }
const policy = { allowRootProfile: true, allowedRuntimes: ['allowed'], info: withRuntime }
const check = bodyCheck({ bindRoots: ['/data'], runtimes: policy.allowedRuntimes })

const networkOf = ({ environment }: Task): TaskNetwork => ({
  name: environment.network.mode === 'none' ? 'none' : 'agirunner-1-l1',
  saved: null,
  dns: environment.network.mode === 'allowlist' ? ['127.0.0.1'] : [],
  env: {},
  egress: () => Promise.reject(new Error('it is not asked for')),
  release: () => Promise.resolve(),
})

function bodyFor(task: Task): Json {
  refuseProfile(task.environment, policy)
  const accepted = {
    task,
    attempt: 1,
    fence: 1,
    createdAt: '',
    startedAt: '',
    credentials: null,
    registryCredentials: null,
    secrets: new Map(),
    redactor: Redactor.of([]),
  }
  const { slot, delivery, readOnly } = plan
  const spec = containerSpec(shapeOf(accepted, 'a reference'), {
    name: containerName(accepted),
    kind: 'task',
    slot,
    delivery,
    readOnly,
    user: task.environment.profile === 'root' ? { uid: 0, gid: 0 } : plan.owner,
    owner,
    image: { id: 'sha256:base', repoDigests: [], platform: 'linux/amd64', env: [], volumes: [] },
    engine: withRuntime,
    network: networkOf(task),
  })
  return check(createBody(spec))
}

/** @returns the body, or the code that refuses the task */
function outcomeOf(input: unknown): Json | string {
  try {
    return bodyFor(parseTask(input))
  } catch (error) {
    if (error instanceof SpecError) return 'spec.invalid'
    if (error instanceof TaskFailure) return error.code
    throw error
  }
}

/** All keys of a body with the path to each, without the indices of lists. */
function keysOf(value: unknown, at = ''): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, part]) => {
    const path = Array.isArray(value) ? at : `${at}.${key}`
    return [path, ...keysOf(part, path)]
  })
}

test(`of ${SPECS} hostile tasks each is refused, or gets a body like any other's`, () => {
  const random = randomOf(SEED)
  const plain = outcomeOf(FULL) as Json
  const allowed = new Set([...keysOf(plain), '.HostConfig.Runtime'])
  const seen: Record<string, number> = {}
  for (let count = 0; count < SPECS; count += 1) {
    const input = hostile(random)
    const outcome = outcomeOf(input)
    const kind = typeof outcome === 'string' ? outcome : 'made'
    seen[kind] = (seen[kind] ?? 0) + 1
    if (typeof outcome === 'string') continue
    expect(keysOf(outcome).filter(key => !allowed.has(key))).toEqual([])
    // Nothing of the task's text but its own name gets there.
    expect(JSON.stringify({ ...outcome, name: '' })).not.toContain(MARK)
    expect(outcome.HostConfig).toMatchObject({
      Mounts: (plain.HostConfig as Json).Mounts,
      SecurityOpt: (plain.HostConfig as Json).SecurityOpt,
      CapDrop: ['ALL'],
      NetworkMode: expect.stringMatching(/^(none|agirunner-.+)$/),
    })
  }
  // Both ways are taken often, and no other.
  expect(Object.keys(seen).toSorted()).toEqual(['made', 'spec.forbidden', 'spec.invalid'])
  expect(Math.min(seen.made ?? 0, seen['spec.invalid'] ?? 0)).toBeGreaterThan(100)
})

test('each hostile key, put into the body itself, is caught', () => {
  const plain = outcomeOf(FULL) as Json
  for (const key of KEYS) {
    if (key in plain) continue
    const body = structuredClone(plain)
    put(body, key, true)
    expect(() => check(body)).toThrow(key)
    const host = structuredClone(plain) as { HostConfig: Json }
    put(host.HostConfig, `${key}_`, true)
    expect(() => check(host)).toThrow(`HostConfig.${key}_`)
  }
})
