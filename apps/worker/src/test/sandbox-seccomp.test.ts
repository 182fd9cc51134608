import { randomUUID } from 'node:crypto'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectEngine } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createBody } from '../engine/docker/body.js'
import type { ContainerSpec } from '../engine/engine.js'
import { LABELS } from '../engine/labels.js'
import { SECCOMP_PROFILE } from '../engine/seccomp/profile.js'
import { HELPER } from '../workspace/helper-container.js'
import { elf32, type Word } from './elf32.js'

const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
const docker = connectEngine()
const stack = randomUUID()
let folder: string

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sandbox-seccomp-'))
  chmodSync(folder, 0o755)
})
afterAll(async () => {
  rmSync(folder, { recursive: true })
  const filters = { label: [`${LABELS.stack}=${stack}`] }
  expect(await docker.listContainers({ all: true, filters })).toEqual([])
})

/** The runtime's own container but for its profile, which ends with the status of its command. */
async function exitOf(command: readonly string[], profile = SECCOMP_PROFILE): Promise<number> {
  const spec: ContainerSpec = {
    ...HELPER,
    name: `agirunner-test-${randomUUID()}`,
    image: IMAGE,
    command,
    labels: { [LABELS.stack]: stack },
    user: '10001:10001',
    readOnlyRoot: true,
    mounts: [{ type: 'bind', source: folder, target: '/programs', readOnly: true }],
  }
  const body = createBody(spec)
  const SecurityOpt = ['no-new-privileges', `seccomp=${profile}`]
  const container = await docker.createContainer({ ...body, HostConfig: { ...body.HostConfig, SecurityOpt } })
  try {
    await container.start()
    return ((await container.wait()) as { StatusCode: number }).StatusCode
  } finally {
    await container.remove({ force: true })
  }
}

interface Profile {
  syscalls: { names: string[]; action: string; args?: { index: number; op: string; value: number }[] }[]
}
const changed = (change: (profile: Profile) => void): string => {
  const profile = JSON.parse(SECCOMP_PROFILE) as Profile
  change(profile)
  return JSON.stringify(profile)
}

/** How others leave out AF_ALG and AF_VSOCK: all families below 38, 39, and all above 40. */
const byExclusion = changed(profile => {
  profile.syscalls = profile.syscalls.filter(rule => !rule.names.includes('socket'))
  for (const [op, value] of [
    ['SCMP_CMP_LT', 38],
    ['SCMP_CMP_EQ', 39],
    ['SCMP_CMP_GT', 40],
  ] as const) {
    profile.syscalls.push({ names: ['socket'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, op, value }] })
  }
})
const withoutSocketcall = changed(profile => {
  for (const rule of profile.syscalls) rule.names = rule.names.filter(name => name !== 'socketcall')
})

const [UNIX, VSOCK, STREAM] = [1, 40, 1]
const [EPERM, ENOSYS, ENODEV] = [1, 38, 19]
const SOCKET = process.arch === 'x64' ? 41 : 198
const socket = (family: string) => [
  'perl',
  '-e',
  `my @a = (${family}, ${STREAM}, 0); exit(syscall(${SOCKET}, @a) < 0 ? $! + 0 : 0)`,
]

describe('a socket of a family that is not allowed', () => {
  test('is refused, also where the number has bits that the kernel does not read', async () => {
    const loop = `for my $family (0 .. 64, map { 2 ** 32 + $_ } 0 .. 64) {
      my @a = ($family, 1, 0); my $got = syscall(${SOCKET}, @a);
      my $known = grep { $_ == $family } 1, 2, 10, 16;
      exit 2 if $known ? $got < 0 && $! == ${EPERM} : $got >= 0 || $! != ${EPERM} }`
    expect(await exitOf(['perl', '-e', loop])).toBe(0)
  })

  test('control: with a list of what is excluded the same numbers get through', async () => {
    expect(await exitOf(socket(`${VSOCK}`), byExclusion)).toBe(EPERM)
    expect(await exitOf(socket(`2 ** 32 + ${VSOCK}`), byExclusion)).not.toBe(EPERM)
  })
})

/** 32-bit x86 runs on x86-64 alone: [what, the call, its arguments, the data, the answer]. */
const CALLS_32: readonly (readonly [string, number, readonly Word[], readonly number[], number])[] = [
  ['getpid', 20, [], [], 0],
  ['a unix socket', 359, [UNIX, STREAM, 0], [], 0],
  ['a vsock', 359, [VSOCK, STREAM, 0], [], EPERM],
  ['a vsock by socketcall', 102, [1, 'data'], [VSOCK, STREAM, 0], ENOSYS],
  ['AF_ALG by socketcall', 102, [1, 'data'], [38, 5, 0], ENOSYS],
  ['io_uring_setup', 425, [1, 0], [], ENOSYS],
  ['clone3', 435, [0, 0], [], ENOSYS],
  ['unshare of users', 310, [0x1000_0000], [], EPERM],
  ['clone of users', 120, [0x1000_0011, 0], [], EPERM],
  ['mount', 21, [0, 0, 0], [], EPERM],
  ['modify_ldt', 123, [0, 0, 0], [], EPERM],
]

/** @returns its path in the container */
function program(call: number, args: readonly Word[], data: readonly number[]): string {
  const name = randomUUID()
  writeFileSync(join(folder, name), elf32(call, args, data), { mode: 0o755 })
  return `/programs/${name}`
}

describe('a 32-bit program', () => {
  const cases = process.arch === 'x64' ? CALLS_32 : []

  test('meets the same rules', async () => {
    const answers: [string, number][] = []
    for (const [what, call, args, data] of cases)
      answers.push([what, await exitOf([program(call, args, data)])])
    expect(answers).toEqual(cases.map(([what, , , , answer]) => [what, answer]))
  })

  test('control: without a rule for socketcall it opens what it likes', async () => {
    for (const [what, call, args, data] of cases.filter(([what]) => what === 'a vsock by socketcall')) {
      const got = await exitOf([program(call, args, data)], withoutSocketcall)
      // A kernel without vsock has an answer of its own.
      expect([what, got === 0 || (got !== ENOSYS && got !== EPERM)]).toEqual([what, true])
      expect(got).not.toBe(ENODEV)
    }
  })
})

describe('a call', () => {
  const call = (number: number) => [
    'perl',
    '-e',
    `my @a = (-1, -1, -1); syscall(${number}, @a); exit($! + 0)`,
  ]

  test('that is newer than the engine is not there, so that programs do without', async () => {
    expect(await exitOf(call(1000))).toBe(ENOSYS)
  })

  test('of the x32 table, whose numbers no rule of ours knows, is not made', async () => {
    // It is refused, or ends the process: getpid must not be answered.
    const x32 = ['perl', '-e', `exit(syscall(0x40000000 + 39) > 0 ? 0 : 7)`]
    expect(await exitOf(x32)).not.toBe(0)
  })
})
