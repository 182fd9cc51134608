import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { connectEngine } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createWorld, newTaskId, readLogs, type World } from './support.js'

const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

/** Name → the call's number on x86-64 and on arm64, and its arguments in Perl. All are harmless where they succeed. */
const CALLS: Readonly<Record<string, readonly [number, number, string]>> = {
  'mount a tmpfs': [165, 40, '"none", "/mnt", "tmpfs", 0, ""'],
  'mount a cgroup hierarchy': [165, 40, '"none", "/mnt", "cgroup", 0, "none,name=agirunner-probe"'],
  'mount proc': [165, 40, '"none", "/mnt", "proc", 0, ""'],
  'bind the root elsewhere': [165, 40, '"/", "/mnt", "", 4096, ""'],
  unmount: [166, 39, '"/nowhere", 0'],
  'open a tree': [428, 428, '-100, "/", 1'],
  'new mount context': [430, 430, '"tmpfs", 0'],
  'pivot the root': [155, 41, '"/nowhere", "/nowhere"'],
  chroot: [161, 51, '"/"'],
  'add a key': [248, 217, '"user", "agirunner", "x", 1, -2'],
  'request a key': [249, 218, '"user", "agirunner", 0, -2'],
  'ask the keyring': [250, 219, '0, -3, 0'],
  'load a BPF program': [321, 280, '9999, "", 0'],
  'watch by performance events': [298, 241, '0, 0, -1, -1, 0'],
  userfaultfd: [323, 282, '0'],
  io_uring: [425, 425, '1, 0'],
  'a packet socket': [41, 198, '17, 3, 0'],
  'a raw socket': [41, 198, '2, 3, 1'],
  vsock: [41, 198, '40, 1, 0'],
  'AF_ALG, which the kernel has by 64 bits too': [41, 198, '4294967334, 5, 0'],
  kexec: [246, 104, '0, 0, 0, 0'],
  'load a module': [175, 105, '0, 0, 0'],
  'open by a handle': [304, 265, '-1, 0, 0'],
  reboot: [169, 142, '0xfee1dead, 672274793, 0, 0'],
  'swap on': [167, 224, '"/nowhere", 0'],
  'process accounting': [163, 89, '0'],
  'set the host name': [170, 161, '"task", 4'],
  'set the clock': [227, 112, '0, 0'],
  'read the kernel log': [103, 116, '10, 0, 0'],
  quotactl: [179, 60, '0x80000100, "/nowhere", 0, 0'],
  'watch the whole file system': [300, 262, '0, 0'],
  // Last, because who is in a namespace of users has no more rights outside.
  'unshare a user namespace': [272, 97, '0x10000000'],
  'unshare a mount namespace': [272, 97, '0x20000'],
  'unshare a network': [272, 97, '0x40000000'],
  'enter a namespace': [308, 268, '-1, 0'],
}
/** What only x86 has. */
const X86_ONLY: Readonly<Record<string, readonly [number, string]>> = { 'ports by iopl': [172, '3'] }

const EPERM = 1
const ENOSYS = 38

/** Prints `name: errno`, 0 for a call that succeeded. A device is made where the container may write. */
function callScript(): string {
  const x86 = process.arch === 'x64'
  const calls = [
    ...Object.entries(CALLS).map(([name, [x64, arm64, args]]) => [name, x86 ? x64 : arm64, args] as const),
    ...(x86 ? Object.entries(X86_ONLY).map(([name, [number, args]]) => [name, number, args] as const) : []),
  ]
  const tries = calls.map(([name, number, args]) => `t(${JSON.stringify(name)}, ${number}, ${args});`)
  return `use strict; $| = 1;
sub t { my ($n, @a) = @_; $! = 0; my $r = syscall(shift(@a), @a); print "$n: ", ($r == -1 ? $! + 0 : 0), "\\n"; }
${tries.join('\n')}`
}

/** Shell lines that each print `name: refused` or `name: done`. */
const FILES: Readonly<Record<string, string>> = {
  'make a device': 'mknod /tmp/null-device c 1 3',
  'write a kernel setting': 'f=/proc/sys/kernel/panic_on_oops; v=$(cat $f) && echo "$v" > $f',
  'name a program for crashes': 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern',
  sysrq: 'echo h > /proc/sysrq-trigger',
  'read the kernel’s memory': 'head -c 1 /proc/kcore > /tmp/kcore && [ -s /tmp/kcore ]',
  'write to sys': 'f=/sys/kernel/mm/ksm/run; v=$(cat $f 2>/dev/null) && echo "$v" > $f',
  'write to its control group':
    'cd /sys/fs/cgroup; if [ -e cgroup.controllers ]; then mkdir x; else mkdir pids/x; fi',
  'write a release agent':
    'f=$(find /sys/fs/cgroup -name release_agent | head -1); v=$(cat "$f") && echo "$v" > "$f"',
  'see a disk of the host': 'find /dev -type b | grep -q .',
  'write to its context': 'touch /workspace/context/x',
  'write to its gate': 'touch /run/agirunner/gate/x',
}
const fileScript = (files: Readonly<Record<string, string>>) =>
  Object.entries(files)
    .map(([name, line]) => `if (${line}) >/dev/null 2>&1; then echo '${name}: 0'; else echo '${name}: 1'; fi`)
    .join('\n')

function parse(text: string): Map<string, number> {
  return new Map(
    text
      .trim()
      .split('\n')
      .map(line => [line.slice(0, line.lastIndexOf(':')), Number(line.slice(line.lastIndexOf(':') + 1))]),
  )
}

const CAPABILITIES =
  `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
  NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
  SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
  MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ`.split(/\s+/)

/** Those that this process may give away: an engine on a machine that is itself a guest has not all. */
function ownCapabilities(): string[] {
  const [, hex = '0'] = /^CapBnd:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return CAPABILITIES.filter((_name, bit) => (BigInt(`0x${hex}`) >> BigInt(bit)) & 1n)
}

/** The same in a container that has no defence. */
function undefended(script: string): Map<string, number> {
  const options = [
    ...ownCapabilities().map(name => `--cap-add=${name}`),
    ...['seccomp=unconfined', 'apparmor=unconfined', 'systempaths=unconfined'].map(
      one => `--security-opt=${one}`,
    ),
  ]
  return parse(
    execFileSync('docker', ['run', '--rm', '-i', '--network=none', '--init', ...options, IMAGE, 'sh'], {
      input: `mkdir -p /workspace/context /run/agirunner/gate\n${script}`,
      encoding: 'utf8',
    }),
  )
}

let world: World
beforeAll(async () => {
  world = await createWorld()
  await world.startWorker()
})
afterAll(async () => await world.close())

async function printedBy(script: string, profile: 'user' | 'root'): Promise<string> {
  const taskId = newTaskId('cage')
  await world.producer.enqueue({ taskId, environment: { profile }, run: { script } })
  const result = await world.producer.waitForResult(taskId)
  const { stdout, stderr } = await readLogs(world.producer, taskId)
  if (result.status !== 'succeeded')
    throw new Error(`${JSON.stringify(result.failure)}\n${stdout}\n${stderr}`)
  return stdout
}

const perl = (script: string) => `perl -e '${script}'`

describe('system calls that reach for the host', () => {
  it('do something, or fail for another reason, where there is no defence: the control', () => {
    const found = undefended(perl(callScript()))
    expect(found.size).toBeGreaterThanOrEqual(Object.keys(CALLS).length)
    // A kernel may lack some of them altogether.
    expect([...found].filter(([, errno]) => errno === EPERM)).toEqual([])
    expect([...found].filter(([, errno]) => errno === ENOSYS).length).toBeLessThan(6)
  })

  it.each(['user', 'root'] as const)('are all refused, profile %s', async profile => {
    const found = parse(await printedBy(perl(callScript()), profile))
    const passed = [...found].filter(([, errno]) => errno !== EPERM && errno !== ENOSYS)
    expect(found.size).toBeGreaterThanOrEqual(Object.keys(CALLS).length)
    expect(passed).toEqual([])
  })
})

describe('files that reach for the host', () => {
  it('can be used where there is no defence: the control', () => {
    const { sysrq: _loud, 'name a program for crashes': _global, ...harmless } = FILES
    const found = undefended(fileScript(harmless))
    const done = [...found].filter(([, status]) => status === 0).map(([name]) => name)
    // The others need what not every machine has, or a mount of their own: a disk in /dev, kcore, a writable /sys.
    expect(done).toEqual(
      expect.arrayContaining([
        'make a device',
        'write a kernel setting',
        'write to its context',
        'write to its gate',
      ]),
    )
  })

  it.each(['user', 'root'] as const)('can’t be used, profile %s', async profile => {
    const found = parse(await printedBy(fileScript(FILES), profile))
    expect([...found]).toEqual(Object.keys(FILES).map(name => [name, 1]))
  })
})

describe('what a task is', () => {
  const STATUS = `grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status`

  it.each([
    ['user', '0000000000000000', '0000000000000000'],
    // CHOWN, DAC_OVERRIDE, FOWNER, SETGID and SETUID.
    ['root', '00000000000000cb', '00000000000000cb'],
  ] as const)(
    '%s has the capabilities of its profile, and can gain none',
    async (profile, effective, bounding) => {
      const found = new Map(
        (await printedBy(STATUS, profile)).split('\n').map(line => line.split(/:\s*/) as [string, string]),
      )
      expect(Object.fromEntries(found)).toMatchObject({
        CapEff: effective,
        CapPrm: effective,
        CapBnd: bounding,
        CapAmb: '0000000000000000',
        NoNewPrivs: '1',
        Seccomp: '2',
      })
    },
  )

  it('a setuid program of root gives a user nothing; without the defence, which is the control, it does', async () => {
    const script = 'cp /usr/bin/id /tmp/id && chmod 4755 /tmp/id'
    // The image's own setuid programs are what a task of the user profile could find.
    const found = await printedBy('su -c "id -u" root </dev/null 2>&1 || true; id -u', 'user')
    expect(found.trim().split('\n').at(-1)).toBe('10001')
    const control = execFileSync(
      'docker',
      [
        'run',
        '--rm',
        '--network=none',
        IMAGE,
        'sh',
        '-c',
        `${script}; setpriv --reuid 10001 --clear-groups /tmp/id -u`,
      ],
      { encoding: 'utf8' },
    )
    expect(control.trim()).toBe('0')
    const held = await printedBy(`${script}; setpriv --reuid 10001 --clear-groups /tmp/id -u`, 'root')
    expect(held.trim()).toBe('10001')
  })

  it.each(['user', 'root'] as const)('%s sees no process, engine or task beside its own', async profile => {
    const neighbour = newTaskId('neighbour')
    await world.producer.enqueue({ taskId: neighbour, run: { script: 'echo started; sleep 600' } })
    for await (const entry of world.producer.logs(neighbour, { follow: true }))
      if (entry.text.includes('started')) break
    try {
      const script = [
        'ps -e -o args= | grep -c "^[s]leep 600"',
        'find / -xdev -name "docker.sock" -o -xdev -name "containerd.sock" 2>/dev/null | wc -l',
        'echo $(ls /workspace)',
        'cat /etc/hostname 2>/dev/null; hostname 2>/dev/null || cat /proc/sys/kernel/hostname',
        `perl -e 'syscall(${process.arch === 'x64' ? 101 : 117}, 16, 999999, 0, 0); print $! + 0, "\\n"'`,
      ].join('; ')
      const lines = (await printedBy(`${script}; true`, profile)).trim().split('\n')
      expect(lines.slice(0, 3)).toEqual(['0', '0', 'context output repo'])
      expect(lines).not.toContain(hostname())
      // ESRCH: what can't be seen can't be traced.
      expect(lines.at(-1)).toBe('3')
    } finally {
      await world.producer.cancel(neighbour)
      await world.producer.waitForResult(neighbour)
    }
  })
})

describe('what must work all the same', () => {
  const WORK = [
    'set -e',
    'git log --oneline -1 >/dev/null 2>&1 || git init -q x',
    'trap "echo caught" USR1; kill -USR1 $$',
    'perl -e \'use threads; print "t\\n"\' 2>/dev/null || true',
    'perl -e \'my $p = fork // die; exit 0 unless $p; waitpid $p, 0; print "forked\\n"\'',
    'perl -e \'use Socket; socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) or die; socket(my $t, AF_INET, SOCK_STREAM, 0) or die; print "sockets\\n"\'',
    'mkfifo f; (echo piped >f &) ; cat f',
    'ln -s a b; ln f g; chmod 700 .; touch -d yesterday f; df . >/dev/null',
    'cp /bin/true /tmp/run-me; /tmp/run-me; echo ran',
    'sleep 0.1; nice -n 5 true; ulimit -n | grep -q 4096; echo done',
  ].join('\n')

  it.each(['user', 'root'] as const)('does, profile %s', async profile => {
    const lines = (await printedBy(WORK, profile)).trim().split('\n')
    for (const line of ['caught', 'forked', 'sockets', 'piped', 'ran', 'done']) expect(lines).toContain(line)
  })
})

describe('the host', () => {
  it('is what it was after all of that', async () => {
    const canary = join(world.hostRoot, 'canary')
    writeFileSync(canary, 'sings')
    const before = { name: hostname(), boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8') }
    const pattern = readFileSync('/proc/sys/kernel/core_pattern', 'utf8')
    await printedBy(`${perl(callScript())}; ${fileScript(FILES)}`, 'root')
    expect({ name: hostname(), boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8') }).toEqual(
      before,
    )
    expect(readFileSync('/proc/sys/kernel/core_pattern', 'utf8')).toBe(pattern)
    expect(readFileSync(canary, 'utf8')).toBe('sings')
    expect((await connectEngine().ping()).toString()).toBe('OK')
  })
})
