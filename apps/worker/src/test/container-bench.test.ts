import { readFileSync } from 'node:fs'
import { connectEngine } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { ContainerInspectInfo } from 'dockerode'
import { AttemptState } from '../attempt-state.js'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import { Execution } from '../execution/execution.js'
import { hostId, newWorkerId } from '../support/identity.js'
import { type Bench, CHECKS, type Check, PROFILES, type Profile } from './bench-checks.js'
import { accept, QUIET, WorkspaceFixture } from './workspace-fixture.js'

const docker = connectEngine()
const owner = { worker: newWorkerId(), host: hostId(), stack: `bench-${process.pid}` }
let fixture: WorkspaceFixture

beforeAll(async () => {
  fixture = await WorkspaceFixture.create()
})
afterAll(() => fixture.close())

/** Runs a task of the profile, and looks at its container while it runs. */
async function look(profile: Profile): Promise<Bench> {
  const engine = dockerEngine(
    { host: process.env.DOCKER_HOST ?? null, tls: false },
    { bindRoots: [fixture.dataDir], runtimes: [] },
  )
  const info = await engine.info()
  const execution = new Execution({
    engine,
    info,
    owner,
    allowRootProfile: true,
    allowedRuntimes: [],
    beforeRun: () => Promise.resolve(),
  })
  const accepted = accept({ type: 'empty' }, { profile })
  const taskId = `bench-${process.pid}-${profile}`
  const task = { ...accepted.task, taskId, run: { script: 'sleep 600' } }
  const plan = await fixture.room('copy').prepare({ ...accepted, task }, QUIET)
  const state = new AttemptState({ taskId, attempt: 1, queuedMs: 0, emit: () => undefined })
  state.enter('workspace')
  const container = await execution.start({ ...accepted, task }, plan, state, QUIET.signal)
  try {
    const made = docker.getContainer(container.id)
    const [inspect, top] = await Promise.all([made.inspect(), made.top({ ps_args: '-eo pid,args' })])
    return {
      inspect,
      host: inspect.HostConfig as Bench['host'],
      processes: (top as { Processes: string[][] }).Processes.map(columns => columns.join(' ')),
      info,
      dataDir: fixture.dataDir,
    }
  } finally {
    await container.release()
    await plan.release()
  }
}

describe.each(PROFILES)('the container of a task of the profile %s', profile => {
  let bench: Bench
  beforeAll(async () => {
    bench = await look(profile)
  })

  test.each(CHECKS.map(check => [check.number, check.asks, check] as const))(
    '%s %s',
    (_number, _asks, check) => {
      expect(check.holds(bench)).toBe(check.waived?.[profile] === undefined)
    },
  )
})

test('control: a container with everything off holds next to nothing of it', async () => {
  const made = await docker.createContainer({
    Image: process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1',
    Cmd: ['true'],
    ExposedPorts: { '22/tcp': {} },
    HostConfig: {
      NetworkMode: 'host',
      PidMode: 'host',
      IpcMode: 'host',
      UTSMode: 'host',
      UsernsMode: 'host',
      Privileged: true,
      PublishAllPorts: true,
      PortBindings: { '22/tcp': [{ HostPort: '22' }] },
      CgroupParent: '/system.slice',
      RestartPolicy: { Name: 'always' },
      SecurityOpt: ['label=disable', 'seccomp=unconfined', 'apparmor=unconfined'],
      Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/null', CgroupPermissions: 'r' }],
      Mounts: [
        {
          Type: 'bind',
          Source: '/var/run/docker.sock',
          Target: '/s',
          BindOptions: { Propagation: 'rshared' },
        },
      ],
    },
  })
  try {
    const inspect = await made.inspect()
    const engine = dockerEngine({ host: process.env.DOCKER_HOST ?? null, tls: false })
    const bench: Bench = {
      // As it would be in use: it is never started.
      inspect: {
        ...inspect,
        ExecIDs: ['an exec'],
        Mounts: [
          {
            Type: 'bind',
            Source: '/var/run/docker.sock',
            Destination: '/s',
            Mode: '',
            RW: true,
            Propagation: 'rshared',
          },
        ],
      } as unknown as ContainerInspectInfo,
      host: inspect.HostConfig as Bench['host'],
      processes: ['/usr/sbin/sshd -D'],
      info: await engine.info(),
      dataDir: '/data',
    }
    const passed = CHECKS.filter(check => check.holds(bench)).map(({ number }) => number)
    // 5.1 asks nothing of a kernel without AppArmor; 5.26 is of a check that this container would have.
    expect(passed.filter(number => number !== '5.1')).toEqual(['5.26'])
  } finally {
    await made.remove({ force: true })
  }
})

test('the table in the README is this one', () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')
  const cell = ({ waived }: Check, profile: Profile) =>
    waived?.[profile] ? `waived: ${waived[profile]}` : 'holds'
  const rows = CHECKS.map(check => {
    const [user, root] = [cell(check, 'user'), cell(check, 'root')]
    return `| ${check.number} | ${check.asks} | ${user} | ${user === root && user !== 'holds' ? 'the same' : root} |`
  })
  expect(readme.split('\n').filter(line => /^\| 5\.\d+ \|/.test(line))).toEqual(rows)
})
