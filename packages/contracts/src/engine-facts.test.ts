import { describe, expect, it } from '@jest/globals'
import { engineCapabilities, missingVitals, readEngineFacts } from './engine-facts.js'

const DOCKER = {
  InitBinary: 'docker-init',
  InitCommit: { ID: 'de40ad0' },
  CgroupVersion: '2',
  CgroupDriver: 'systemd',
  MemoryLimit: true,
  SwapLimit: true,
  CpuCfsQuota: true,
  PidsLimit: true,
  SecurityOptions: ['name=apparmor', 'name=seccomp,profile=builtin', 'name=cgroupns'],
  Runtimes: { runc: { path: 'runc' }, runsc: { path: 'runsc' } },
  Driver: 'overlay2',
}
const statesOf = (info: object) =>
  Object.fromEntries(engineCapabilities(readEngineFacts(info)).map(({ name, state }) => [name, state]))
const lacking = (info: object) =>
  missingVitals(engineCapabilities(readEngineFacts(info))).map(({ name }) => name)

describe('what an engine says of itself', () => {
  it('is read from the answer of Docker', () => {
    expect(readEngineFacts(DOCKER)).toEqual({
      init: 'docker-init',
      cgroupVersion: '2',
      cgroupDriver: 'systemd',
      memoryLimit: true,
      swapLimit: true,
      cpuLimit: true,
      pidsLimit: true,
      security: ['apparmor', 'seccomp', 'cgroupns'],
      runtimes: ['runc', 'runsc'],
      storageDriver: 'overlay2',
    })
    expect(lacking(DOCKER)).toEqual([])
  })

  it('counts as missing where it is left out', () => {
    expect(lacking({})).toEqual(['memory limit', 'cpu limit', 'pids limit', 'seccomp'])
    expect(lacking({ ...DOCKER, MemoryLimit: 'yes', SecurityOptions: null })).toEqual([
      'memory limit',
      'seccomp',
    ])
  })

  it.each([
    ['of Docker that could not be run', { InitCommit: { ID: 'N/A' } }, 'missing'],
    ['of Debian, which has no commit', { InitCommit: { ID: '' } }, 'enforced'],
    ['that is not told, as by Podman', { InitBinary: '', InitCommit: null }, 'weaker'],
  ])('an init %s', (_of, more, state) => {
    expect(statesOf({ ...DOCKER, ...more }).init).toBe(state)
  })

  it('is weaker without a count of swap, without AppArmor and SELinux, and where root is root', () => {
    const { 'swap limit': swap, 'kernel policy': policy } = statesOf({
      ...DOCKER,
      SwapLimit: false,
      SecurityOptions: ['name=seccomp'],
    })
    expect([swap, policy]).toEqual(['weaker', 'weaker'])
    const users = (option: string) =>
      statesOf({ ...DOCKER, SecurityOptions: [...DOCKER.SecurityOptions, option] })['user namespace']
    expect(['name=cgroupns', 'name=userns', 'name=rootless'].map(users)).toEqual([
      'weaker',
      'enforced',
      'enforced',
    ])
  })
})

describe('what a container saw', () => {
  const seen = {
    init: 'docker-init',
    filtered: true,
    noNewPrivileges: true,
    capabilities: '0000000000000000',
    memoryLimit: true,
    pidsLimit: true,
    cpuLimit: true,
  }
  const facts = readEngineFacts(DOCKER)

  it('counts more than what the engine says', () => {
    expect(missingVitals(engineCapabilities(facts, seen))).toEqual([])
    const less = {
      init: 'sh',
      filtered: false,
      noNewPrivileges: false,
      memoryLimit: false,
      pidsLimit: false,
      cpuLimit: false,
    }
    const missing = missingVitals(engineCapabilities(facts, { ...seen, ...less }))
    expect(missing.map(({ name }) => name)).toEqual([
      'init',
      'memory limit',
      'cpu limit',
      'pids limit',
      'seccomp',
      'privileges',
    ])
    expect(missing.every(({ fix }) => fix !== null)).toBe(true)
  })

  it('does not make up for what the engine lacks', () => {
    const without = { ...facts, memoryLimit: false }
    expect(missingVitals(engineCapabilities(without, { ...seen, memoryLimit: undefined }))).toHaveLength(1)
  })
})
