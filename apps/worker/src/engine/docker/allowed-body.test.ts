import { describe, expect, it } from '@jest/globals'
import type { ContainerSpec } from '../engine.js'
import { bodyCheck } from './allowed-body.js'
import { createBody } from './body.js'

const check = bodyCheck({ bindRoots: ['/data/agirunner'], runtimes: ['runsc'] })
const bind = (source: string, target = '/workspace/repo', readOnly = false) =>
  ({ type: 'bind', source, target, readOnly }) as const
const live = (readOnly: boolean) => ({ ...bind('/data/agirunner/live', '/workspace', readOnly), live: true })
const volume = (source: string) =>
  ({ type: 'volume', source, target: '/workspace/repo', readOnly: false }) as const

function spec(more: Partial<ContainerSpec> = {}): ContainerSpec {
  return {
    capabilities: [],
    cpus: 1,
    memoryBytes: 64 * 2 ** 20,
    pids: 16,
    shmBytes: 2 ** 20,
    network: 'none',
    dns: [],
    runtime: null,
    name: 'agirunner-t-1',
    image: 'sha256:0',
    command: ['true'],
    env: ['TINI_KILL_PROCESS_GROUP=1'],
    labels: { 'agirunner.managed': 'true' },
    user: '10001:10001',
    readOnlyRoot: true,
    mounts: [bind('/data/agirunner/slots/1/repo')],
    tmpfs: { '/tmp': 'rw,exec,nosuid,nodev,mode=1777,size=4096' },
    ...more,
  }
}

type Json = Record<string, unknown>
const body = (more?: Partial<ContainerSpec>) => JSON.parse(JSON.stringify(createBody(spec(more)))) as Json
const withHost = (more: Json): Json => {
  const made = body()
  return { ...made, HostConfig: { ...(made.HostConfig as Json), ...more } }
}

describe('what a container may be made of', () => {
  it.each<[string, Partial<ContainerSpec>]>([
    ['of the user profile', {}],
    ['of the root profile', { user: '0:0', readOnlyRoot: false, capabilities: ['CHOWN', 'SETUID'] }],
    ['with volumes', { mounts: [volume('agirunner-1-repo')] }],
    ['in the open network', { network: 'agirunner-open' }],
    ['of an allowed runtime', { runtime: 'runsc' }],
    ['that sees later mounts', { mounts: [live(true)] }],
    ['of root that sees later mounts', { mounts: [live(false)] }],
    ['with a resolver of ours', { mounts: [bind('/data/agirunner/net/r', '/etc/resolv.conf', true)] }],
  ])('is sent as it is: one %s', (_of, more) => {
    expect(check(createBody(spec(more)))).toEqual(body(more))
  })

  it.each<[string, unknown]>([
    ['CgroupParent', '/agirunner/slot-1'],
    ['CgroupParent', 'agirunner-slot.slice'],
    ['Dns', ['127.0.0.1']],
    ['DnsSearch', ['.']],
    ['DnsOptions', ['ndots:0']],
    ['Sysctls', { 'net.ipv6.conf.all.disable_ipv6': '1' }],
  ])('may have %s %j', (key, value) => {
    expect(check(withHost({ [key]: value }))).toEqual(withHost({ [key]: value }))
  })
})

/** Keys of the Docker API's HostConfig, to API 1.50, that no container may have at all, with what an attacker would want. */
const NEVER: readonly (readonly [string, unknown])[] = [
  ['Annotations', { a: 'b' }],
  ['Binds', ['/:/host']],
  ['BlkioDeviceReadBps', [{ Path: '/dev/vda', Rate: 1 }]],
  ['BlkioWeight', 10],
  ['Capabilities', ['ALL']],
  ['Cgroup', 'container:x'],
  ['ConsoleSize', [1, 1]],
  ['ContainerIDFile', '/etc/cron.d/x'],
  ['CpuPeriod', 1000],
  ['CpuRealtimeRuntime', 1000],
  ['CpuShares', 262_144],
  ['CpusetCpus', '0'],
  ['DeviceCgroupRules', ['a *:* rwm']],
  ['DeviceRequests', [{ Count: -1, Capabilities: [['gpu']] }]],
  ['Devices', [{ PathOnHost: '/dev/vda', PathInContainer: '/dev/vda', CgroupPermissions: 'rwm' }]],
  ['ExtraHosts', ['example.com:127.0.0.1']],
  ['GroupAdd', ['0']],
  ['Isolation', 'process'],
  ['KernelMemory', 1],
  ['Links', ['other:alias']],
  ['MaskedPaths', []],
  ['MemoryReservation', 1],
  ['MemorySwappiness', 100],
  ['OomKillDisable', true],
  ['PidMode', 'host'],
  ['PortBindings', { '22/tcp': [{ HostPort: '22' }] }],
  ['Privileged', true],
  ['Privileged', false],
  ['PublishAllPorts', true],
  ['ReadonlyPaths', []],
  ['StorageOpt', { size: '1T' }],
  ['UTSMode', 'host'],
  ['UsernsMode', 'host'],
  ['VolumeDriver', 'x'],
  ['VolumesFrom', ['other']],
  ['constructor', {}],
]

/** Values that keys of ours may not have. */
const WRONG: readonly (readonly [string, unknown])[] = [
  ['AutoRemove', true],
  ['CapAdd', ['SYS_ADMIN']],
  ['CapAdd', ['CHOWN']],
  ['CapAdd', 'ALL'],
  ['CapDrop', []],
  ['CapDrop', ['ALL', 'CHOWN']],
  ['CgroupParent', '/'],
  ['CgroupParent', '/agirunner/../system.slice'],
  ['CgroupnsMode', 'host'],
  ['Dns', ['not an address']],
  ['Init', false],
  ['IpcMode', 'host'],
  ['LogConfig', { Type: 'syslog', Config: { 'syslog-address': 'tcp://192.0.2.1:1' } }],
  ['LogConfig', { Type: 'none', Config: { env: 'x' } }],
  ['Memory', 0],
  ['Memory', -1],
  ['MemorySwap', -1],
  ['NanoCpus', 0],
  ['NetworkMode', 'host'],
  ['NetworkMode', 'bridge'],
  ['NetworkMode', 'container:other'],
  ['OomScoreAdj', -1000],
  ['PidsLimit', 0],
  ['PidsLimit', -1],
  ['PidsLimit', null],
  ['ReadonlyRootfs', false],
  ['RestartPolicy', { Name: 'always' }],
  ['Runtime', 'runc-debug'],
  ['SecurityOpt', ['no-new-privileges']],
  ['SecurityOpt', ['no-new-privileges', 'seccomp=unconfined']],
  ['ShmSize', 0],
  ['Sysctls', { 'kernel.core_pattern': '|/x' }],
  ['Tmpfs', { '/tmp': 'rw,exec,nosuid,nodev,size=0' }],
  ['Tmpfs', { '/tmp': 'rw,exec,suid,dev,size=4096' }],
  ['Tmpfs', { '/proc': 'rw,exec,nosuid,nodev,size=4096' }],
  ['Ulimits', [{ Name: 'nofile', Soft: 4096, Hard: 1_048_576 }]],
]

const MOUNTS: readonly (readonly [string, Json])[] = [
  ['the root', { Source: '/' }],
  ['what is not ours', { Source: '/etc' }],
  ['the data folder itself', { Source: '/data/agirunner' }],
  ['its beginning', { Source: '/data/agirunner-other/x' }],
  ['a way out', { Source: '/data/agirunner/../../etc' }],
  ['the engine itself', { Source: '/var/run/docker.sock' }],
  ['a way to the host for mounts', { BindOptions: { Propagation: 'rshared' } }],
  ["the kernel's own place", { Target: '/proc/sys' }],
  ['programs', { Target: '/usr/bin' }],
  ['a resolver that can be written', { Target: '/etc/resolv.conf' }],
  ['the users', { Target: '/etc/passwd', ReadOnly: true }],
  ["another's volume", { Type: 'volume', Source: 'postgres', VolumeOptions: { NoCopy: true } }],
  [
    'a driver',
    { Type: 'volume', Source: 'agirunner-x', VolumeOptions: { NoCopy: true, DriverConfig: { Name: 'x' } } },
  ],
  ['a pipe', { Type: 'npipe' }],
]

const TOP: readonly (readonly [string, unknown])[] = [
  ['Domainname', 'x'],
  ['Entrypoint', ['/x']],
  ['ExposedPorts', { '22/tcp': {} }],
  ['Healthcheck', { Test: ['CMD', '/x'], Interval: 1_000_000 }],
  ['Hostname', 'db'],
  ['MacAddress', '00:00:00:00:00:01'],
  ['NetworkDisabled', false],
  ['NetworkingConfig', { EndpointsConfig: { host: {} } }],
  ['OpenStdin', true],
  ['Privileged', true],
  ['StopSignal', 'SIGKILL'],
  ['Tty', true],
  ['User', 'root'],
  ['Volumes', { '/x': {} }],
  ['WorkingDir', '/workspace'],
  ['name', 'postgres'],
  ['_body', {}],
]

describe('what is never sent', () => {
  const refused = (made: unknown) => {
    try {
      check(made)
    } catch (error) {
      return error as { code: string; message: string }
    }
    throw new Error('it passed')
  }

  it.each([...NEVER, ...WRONG])('HostConfig.%s %j, which is named', (key, value) => {
    const { code, message } = refused(withHost({ [key]: value }))
    expect(code).toBe('container.create_failed')
    expect(message).toContain(`HostConfig.${key}`)
  })

  it.each(TOP)('%s %j, which is named', (key, value) => {
    expect(refused({ ...body(), [key]: value }).message).toMatch(new RegExp(`\\b${key}\\b`))
  })

  it.each(MOUNTS)('a mount of %s', (_of, more) => {
    const mount = { ...((withHost({}).HostConfig as Json).Mounts as Json[])[0], ...more }
    expect(refused(withHost({ Mounts: [mount] })).message).toContain('HostConfig.Mounts.0')
  })

  it.each(Object.keys(body().HostConfig as Json))('a body without HostConfig.%s', key => {
    const made = withHost({})
    delete (made.HostConfig as Json)[key]
    expect(refused(made).message).toContain(`HostConfig.${key}`)
  })

  it('a key of the prototype that JSON would carry', () => {
    const made = JSON.stringify(body()).replace('"Init":true', '"Init":true,"__proto__":{"Privileged":true}')
    expect(refused(JSON.parse(made)).message).toContain('HostConfig.__proto__')
    const labels = JSON.stringify(body()).replace('"Labels":{', '"Labels":{"__proto__":{"x":1},')
    expect(JSON.stringify(check(JSON.parse(labels)))).not.toContain('__proto__')
  })

  it('what a getter or toJSON would say only when it is sent', () => {
    const answers = [true, false]
    const made = withHost({})
    const get = () => answers.shift() ?? false
    Object.defineProperty(made.HostConfig, 'ReadonlyRootfs', { enumerable: true, get })
    expect(check(made)).toEqual(body())
  })

  it('names no value, which may be the task’s', () => {
    expect(refused(withHost({ Binds: ['/secret-value:/x'] })).message).not.toContain('secret-value')
  })
})
