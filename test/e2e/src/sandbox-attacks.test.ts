import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TaskInput } from '@agirunner/contracts'
import { connectEngine } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import {
  answersOf,
  attackProgram,
  CONTROL_CAPABILITIES,
  CONTROL_PRELUDE,
  expectations,
} from './sandbox/probes.js'
import { importSetuidImage, runRaw } from './sandbox/raw-container.js'
import { namesOf, worksScript } from './sandbox/works.js'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
const PROFILES = ['user', 'root'] as const
type Profile = (typeof PROFILES)[number]

let world: World
let cgroupVersion: string
let setuid: Awaited<ReturnType<typeof importSetuidImage>>
let neighbour: string

/** What of the host an escape would change, as far as the tests of others leave it alone. */
const canaryFolder = mkdtempSync(join(tmpdir(), 'agirunner-canary-'))
const canaryFile = join(canaryFolder, 'file')
writeFileSync(canaryFile, 'untouched')
const ofKernel = (name: string) => readFileSync(`/proc/sys/kernel/${name}`, 'utf8')
const host = () => ({
  hostname: hostname(),
  boot: ofKernel('random/boot_id'),
  corePattern: ofKernel('core_pattern'),
  canary: readFileSync(canaryFile, 'utf8'),
})
const before = host()

beforeAll(async () => {
  world = await createWorld()
  setuid = await importSetuidImage(IMAGE)
  const { CgroupVersion = '1' } = (await connectEngine().info()) as { CgroupVersion?: string }
  cgroupVersion = CgroupVersion
  await world.startWorker({ AGIRUNNER_CONCURRENCY: '3', AGIRUNNER_RUNTIMES: 'runc, no-such' })
  neighbour = newTaskId('neighbour')
  const script = `trap 'cat /workspace/output/mine; exit 0' TERM; echo unharmed >/workspace/output/mine; echo there
    while :; do sleep 1; done`
  await world.producer.enqueue({ taskId: neighbour, run: { script } })
  for await (const { text } of world.producer.logs(neighbour, { follow: true })) if (/there/.test(text)) break
})
afterAll(async () => {
  await world.close()
  await setuid.remove()
  rmSync(canaryFolder, { recursive: true })
})

async function run(profile: Profile, task: Omit<TaskInput, 'taskId'>) {
  const taskId = newTaskId('sandbox')
  await world.producer.enqueue({
    ...task,
    taskId,
    environment: { image: IMAGE, ...task.environment, profile },
  })
  const { stdout, stderr } = await readLogs(world.producer, taskId)
  const result = await world.producer.waitForResult(taskId)
  return { result, stdout, stderr }
}

/** Runs a Perl program that may be longer than a command line. */
const perl = (text: string): Omit<TaskInput, 'taskId'> => ({
  workspace: { files: [{ path: 'context/attack.pl', text }] },
  run: { command: ['perl', '/workspace/context/attack.pl'] },
})

describe.each(PROFILES)('a task of the profile %s', profile => {
  it('is refused every call and every file that is not for it', async () => {
    const { stdout, stderr } = await run(profile, perl(attackProgram(cgroupVersion)))
    expect(stderr).toBe('')
    expect(answersOf(stdout)).toEqual(expectations(cgroupVersion))
  })

  it('has the capabilities that were promised, and can gain none', async () => {
    const { stdout } = await run(profile, {
      run: { script: `grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\t'` },
    })
    // CHOWN, DAC_OVERRIDE, FOWNER, SETGID and SETUID are bits 0, 1, 3, 6 and 7.
    const all = profile === 'root' ? '00000000000000cb' : '0000000000000000'
    expect(stdout.trim().split('\n')).toEqual([
      'CapInh:0000000000000000',
      `CapPrm:${all}`,
      `CapEff:${all}`,
      `CapBnd:${all}`,
      'CapAmb:0000000000000000',
      'NoNewPrivs:1',
      'Seccomp:2',
    ])
  })

  it('gains nothing by a file that is setuid root', async () => {
    // The profile root can become somebody else; from there a setuid file must not lead back.
    const asOther = `perl -e '$) = "10001 10001"; $( = 10001; $< = $> = 10001; exec "root-id", "-u"'`
    const { stdout } = await run(profile, { environment: { image: setuid.name }, run: { script: asOther } })
    expect(stdout).toBe('10001\n')
  })

  it('sees nothing of the host and of its neighbours', async () => {
    const { stdout } = await run(profile, {
      run: {
        script: `
          ls /dev | grep -vx core | tr '\\n' ' '; echo
          hostname; ls /sys/class/net | tr '\\n' ' '; echo
          ls /proc | grep -c '^[0-9]' | awk '$1 > 12 { print "many processes" }'
          ls -d /var/run/docker.sock /run/docker.sock /run/containerd ${canaryFolder} ${world.dataDir} 2>/dev/null
          find /dev/shm /workspace/output -mindepth 1
          kill -0 ${process.pid} 2>/dev/null && echo the test itself
          grep -l . /proc/[0-9]*/cmdline 2>/dev/null | while read -r at; do tr '\\0' ' ' <$at; echo; done | grep '[n]eighbour'
          ls /workspace | tr '\\n' ' '`,
      },
    })
    expect(stdout.split('\n').map(line => line.trim())).toEqual([
      'fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero',
      'task',
      'lo',
      'context output repo',
    ])
  })

  it('can write to its own places only', async () => {
    const places = [
      '/',
      '/etc',
      '/usr/bin',
      '/workspace/context',
      '/run/agirunner/gate',
      '/dev',
      '/proc',
      '/sys',
    ]
    const script = places.map(place => `touch ${place}/x 2>/dev/null && echo ${place}`).join('; ')
    const { stdout } = await run(profile, { run: { script: `${script}; true` } })
    const written = stdout.split('\n').filter(line => line !== '')
    // Its /dev is a file system of its own, of 64 KiB; devices can't be made there.
    expect(written).toEqual(profile === 'root' ? ['/', '/etc', '/usr/bin', '/dev'] : [])
  })

  it('can not reboot', async () => {
    const { stdout } = await run(profile, perl(`${REBOOT} print $! + 0, "\\n";`))
    expect(stdout).toBe('1\n')
  })

  it('can do what builds do', async () => {
    const { stdout } = await run(profile, { run: { script: worksScript(profile) } })
    expect(stdout.trim().split('\n')).toEqual(namesOf(profile))
  })
})

describe('a runtime', () => {
  it.each([
    ['that is allowed and there runs the task', 'runc', 'succeeded', undefined],
    ['that the engine lacks is no runtime to run with', 'no-such', 'failed', 'environment.unsupported'],
    ['that the operator did not name is forbidden', 'runsc', 'failed', 'spec.forbidden'],
  ])('%s', async (_what, runtime, status, code) => {
    const { result } = await run('user', { environment: { runtime }, run: { script: 'true' } })
    expect([result.status, result.failure?.code]).toEqual([status, code])
  })
})

/** LINUX_REBOOT_CMD_RESTART. In a process namespace of its own the kernel ends that one. */
const REBOOT = `my @a = (0xfee1dead, 672274793, 0x01234567, 0); syscall(${process.arch === 'x64' ? 169 : 142}, @a);`

describe('the controls', () => {
  const off = {
    CapAdd: CONTROL_CAPABILITIES,
    SecurityOpt: ['seccomp=unconfined', 'apparmor=unconfined'],
    MaskedPaths: [],
    ReadonlyPaths: [],
    CgroupnsMode: 'private',
  }

  it('every attack gets through where the sandbox is off', async () => {
    const program = CONTROL_PRELUDE + attackProgram(cgroupVersion)
    const { output } = await runRaw({ image: IMAGE, command: ['perl', '-e', program], host: off })
    const answers = answersOf(output)
    const expected = expectations(cgroupVersion)
    expect(Object.keys(answers)).toEqual(Object.keys(expected))
    const stopped = Object.keys(expected).filter(name => answers[name] === expected[name])
    // A file that this kernel does not have can't be opened by anyone.
    const absent = (name: string) => /^[<>] \//.test(name) && !existsSync(name.slice(2))
    expect(stopped.filter(name => !absent(name))).toEqual([])
  })

  it('a reboot is obeyed, and ends the namespace', async () => {
    const { code } = await runRaw({ image: IMAGE, command: ['perl', '-e', REBOOT], host: off })
    expect(code).toBe(129)
  })

  it('a file that is setuid root makes root', async () => {
    const ran = await runRaw({ image: setuid.name, command: ['root-id', '-u'], user: '10001:10001' })
    expect(ran.output).toBe('0\n')
  })

  it('processes, the host’s name and its files are there to be seen', async () => {
    const script = `kill -0 ${process.pid} && hostname && cat /canary/file`
    const { output } = await runRaw({
      image: IMAGE,
      command: ['sh', '-c', script],
      host: { PidMode: 'host', UTSMode: 'host', Binds: [`${canaryFolder}:/canary:ro`] },
    })
    expect(output).toBe(`${hostname()}\nuntouched`)
  })
})

describe('after all of it', () => {
  it('the host is as it was, and the neighbour too', async () => {
    expect(host()).toEqual(before)
    await world.producer.cancel(neighbour)
    const { status } = await world.producer.waitForResult(neighbour)
    expect(status).toBe('canceled')
    const { stdout } = await readLogs(world.producer, neighbour)
    expect(stdout).toBe('there\nunharmed\n')
  })
})
