import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { hostId, newWorkerId } from '../../support/identity.js'
import { mergeFigures, NO_FIGURES, readFigures } from './figures.js'
import { type Hierarchy, readHierarchy, readValue } from './hierarchy.js'
import { isOomKill } from './kernel-log.js'
import { taskGroups } from './task-groups.js'

const V1 = [
  '25 20 0:23 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755',
  '26 25 0:24 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw',
  '27 25 0:25 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd',
  '28 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct',
  '29 25 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory',
  '30 25 0:28 / /sys/fs/cgroup/pids rw,nosuid - cgroup cgroup rw,pids',
  '31 25 0:29 / /sys/fs/cgroup/blkio rw,nosuid - cgroup cgroup rw,blkio',
].join('\n')
const V2 = '35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate'

describe('where control groups are', () => {
  it('is read of version 1, where controllers may share a folder and version 2 stands beside it', () => {
    const at = (name: string) => `/sys/fs/cgroup/${name}`
    expect(readHierarchy(1, V1)).toEqual({
      version: 1,
      roots: { cpu: at('cpu,cpuacct'), memory: at('memory'), pids: at('pids'), io: at('blkio') },
      all: ['unified', 'systemd', 'cpu,cpuacct', 'memory', 'pids', 'blkio'].map(at),
    })
  })

  it('is one folder in version 2', () => {
    expect(readHierarchy(2, V2)).toMatchObject({
      version: 2,
      roots: { pids: '/sys/fs/cgroup', memory: '/sys/fs/cgroup' },
      all: ['/sys/fs/cgroup'],
    })
  })

  it.each([
    ['nothing is mounted', 1, ''],
    ['a controller is missing', 1, V1.replace(/^.*rw,pids$/m, '')],
    ['only the part of a container is mounted', 2, V2.replace(' / /sys', ' /docker/0123 /sys')],
    ['the engine uses the other version', 2, V1.replace(/^.*cgroup2.*$/m, '')],
  ] as const)('is null when %s', (_why, version, text) => {
    expect(readHierarchy(version, text)).toBeNull()
  })

  it('is found on this machine', () => {
    const text = readFileSync('/proc/self/mountinfo', 'utf8')
    expect(readHierarchy(1, text) ?? readHierarchy(2, text)).not.toBeNull()
  })
})

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cgroup-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** Folders and files as the kernel would show them. */
function fixture(files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), `${content}\n`)
  }
}

const v1 = (): Hierarchy => ({
  version: 1,
  roots: {
    cpu: join(root, 'cpuacct'),
    memory: join(root, 'memory'),
    pids: join(root, 'pids'),
    io: join(root, 'blkio'),
  },
  all: ['cpuacct', 'memory', 'pids', 'blkio'].map(name => join(root, name)),
})
const v2 = (): Hierarchy => ({
  version: 2,
  roots: { cpu: root, memory: root, pids: root, io: root },
  all: [root],
})

describe('the figures of version 1', () => {
  const KEPT = {
    'cpuacct/g/cpuacct.usage': '1500000000',
    'memory/g/memory.max_usage_in_bytes': '4096',
    'pids/g/pids.peak': '13',
    'blkio/g/blkio.throttle.io_serviced_recursive': '8:0 Read 3\n8:0 Total 7\nTotal 7',
  }
  const LIVE = {
    'memory/g/c/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 2',
    'pids/g/c/pids.events': 'max 0',
  }

  it('are read while the container lives', () => {
    fixture({ ...KEPT, ...LIVE })
    expect(readFigures(v1(), { kept: '/g', live: '/g/c', pidsLimit: 20 }, readValue)).toEqual({
      cpuNs: 1.5e9,
      memoryPeakBytes: 4096,
      pidsPeak: 13,
      ioOperations: 7,
      oomKills: 2,
      pidsExceeded: false,
    })
  })

  it('outlive it, but for the count of OOM kills', () => {
    fixture(KEPT)
    const now = readFigures(v1(), { kept: '/g', live: '/g/c', pidsLimit: 12 }, readValue)
    expect(now).toMatchObject({ cpuNs: 1.5e9, oomKills: null, pidsPeak: 12, pidsExceeded: true })
    expect(mergeFigures({ ...NO_FIGURES, oomKills: 2 }, now)).toMatchObject({ cpuNs: 1.5e9, oomKills: 2 })
  })

  it('are null where an older kernel tells less', () => {
    fixture({ ...LIVE, 'pids/g/c/pids.current': '5', 'pids/g/c/pids.events': 'max 3' })
    expect(readFigures(v1(), { kept: '/g', live: '/g/c', pidsLimit: 12 }, readValue)).toMatchObject({
      cpuNs: null,
      memoryPeakBytes: null,
      pidsPeak: 5,
      pidsExceeded: true,
    })
  })
})

describe('the figures of version 2', () => {
  it('are all of the group that outlives the container', () => {
    fixture({
      'g/cpu.stat': 'usage_usec 2500\nuser_usec 2000',
      'g/memory.peak': '8192',
      'g/memory.events': 'low 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 0',
      'g/pids.peak': '9',
      'g/pids.events': 'max 0',
      'g/io.stat': '8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=9\n8:16 rios=1 wios=1',
    })
    expect(readFigures(v2(), { kept: '/g', live: null, pidsLimit: null }, readValue)).toEqual({
      cpuNs: 2_500_000,
      memoryPeakBytes: 8192,
      pidsPeak: 9,
      ioOperations: 9,
      oomKills: 1,
      pidsExceeded: false,
    })
  })

  it('take what is used now where the kernel has no peak', () => {
    fixture({ 'g/memory.current': '77', 'g/pids.current': '3', 'g/pids.events': 'max 4' })
    expect(readFigures(v2(), { kept: '/g', live: null, pidsLimit: 3 }, readValue)).toMatchObject({
      memoryPeakBytes: 77,
      pidsPeak: 3,
      pidsExceeded: true,
    })
  })
})

describe('an OOM kill in the kernel’s log', () => {
  const record = (group: string, task = 'perl') =>
    `6,9,31525653803,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=0,oom_memcg=/g,task_memcg=${group},task=${task},pid=7,uid=0`

  it.each([
    ['of a container in the group', record('/agirunner/x/in/0123'), true],
    ['of another group', record('/agirunner/xy/in/0123'), false],
    ['of a process that names itself like it', record('/docker/0', ',task_memcg=/a,'), false],
    ['that is something else', '6,9,1,-;eth0: task_memcg=/agirunner/x,task=', false],
  ])('%s', (_what, text, counts) => {
    expect(isOomKill(text, '/agirunner/x')).toBe(counts)
  })
})

describe('a group of a task', () => {
  const owner = { worker: newWorkerId(), host: hostId(), stack: 's' }
  const name = `${owner.host}.${owner.worker.replaceAll('-', '_')}.a_b`

  it('is made for cgroupfs, version 2, with its controllers and the limit above the one that is read', async () => {
    fixture({ 'cgroup.controllers': 'cpuset cpu memory pids', 'agirunner/cgroup.controllers': 'cpu pids' })
    const group = await taskGroups('cgroupfs', v2(), owner).make('a-b', { pids: 12 })
    expect(group).toMatchObject({ parent: `/agirunner/${name}/in`, pids: 13, countsOomKills: true })
    const read = (path: string) => readFileSync(join(root, path), 'utf8')
    expect(read('cgroup.subtree_control')).toBe('+cpu +memory +pids')
    expect(read('agirunner/cgroup.subtree_control')).toBe('+cpu +pids')
    expect(read(`agirunner/${name}/pids.max`)).toBe('12')
    expect(readdirSync(join(root, 'agirunner', name, 'in'))).toEqual(['cgroup.subtree_control'])
  })

  it('is a slice of its own for systemd, made and stopped by its name, with no dash that would nest it', async () => {
    const said = join(root, 'said')
    const systemctl = join(root, 'systemctl')
    writeFileSync(systemctl, `#!/bin/sh\necho "$*" >> ${said}\n`, { mode: 0o755 })
    const groups = taskGroups('systemd', v2(), owner, systemctl)
    const group = await groups.make('a-b', { pids: 12 })
    expect(group).toMatchObject({ parent: `agirunner-${name}.slice`, pids: 12 })
    expect(group.attach('0123abc')).toBe('elsewhere')

    fixture({
      [`agirunner.slice/${group.parent}/docker-0123abc.scope/cgroup.procs`]: '77\n78',
      [`agirunner.slice/${group.parent}/memory.events`]: 'oom_kill 3',
    })
    expect(group.attach('9999')).toBe('elsewhere')
    expect(group.attach('0123abc')).toBe(77)
    expect(group.read()).toMatchObject({ oomKills: 3 })

    await group.remove()
    const dead = `agirunner-${owner.host}.w_999999999_1_abcdef.x.slice`
    mkdirSync(join(root, 'agirunner.slice', dead))
    expect(await groups.reap()).toBe(1)
    const calls = [`start ${group.parent}`, `stop ${group.parent}`, `stop ${dead}`]
    expect(readFileSync(said, 'utf8').trim().split('\n')).toEqual(calls)
  })

  it('of a dead worker on this host is reaped; of a live one, of another host, and what is no group of ours stay', async () => {
    const dead = `${owner.host}.w_999999999_1_abcdef.x`
    const others = [name, `0123456789ab.w_999999999_1_abcdef.x`, 'somebody', `${owner.host}.w_x.y`]
    for (const one of [dead, ...others])
      for (const controller of ['cpuacct', 'pids', 'memory'])
        mkdirSync(join(root, controller, 'agirunner', one, 'in'), { recursive: true })
    cpSync(join(root, 'memory'), join(root, 'copy'), { recursive: true })
    expect(await taskGroups('cgroupfs', v1(), owner).reap()).toBe(1)
    for (const controller of ['cpuacct', 'pids', 'memory'])
      expect(readdirSync(join(root, controller, 'agirunner')).toSorted()).toEqual(others.toSorted())
    expect(readdirSync(join(root, 'copy/agirunner'))).toContain(dead)
    expect(await taskGroups('cgroupfs', v1(), owner).reap()).toBe(0)
  })
})
