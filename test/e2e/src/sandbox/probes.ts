/** System calls that a task may not make: the name, its numbers on x86-64 and arm64, its arguments in Perl. */
type Probe = readonly [name: string, x64: number, arm64: number, args: string]

/**
 * Made so that they do no harm where they succeed: with arguments that the kernel refuses after it has looked at the
 * caller's rights, or with an effect on the caller's own namespaces alone.
 */
const CALLS: readonly Probe[] = [
  ['mount tmpfs', 165, 40, '"tmpfs", $dir, "tmpfs", 0, 0'],
  ['mount proc', 165, 40, '"proc", $dir, "proc", 0, 0'],
  ['mount cgroup', 165, 40, '"cgroup", $dir, "cgroup2", 0, 0'],
  ['mount bind', 165, 40, '"/", $dir, "", 4096, 0'],
  ['remount /', 165, 40, '"", "/", "", 4096 | 32, 0'],
  ['umount2', 166, 39, '$dir, 2'],
  ['fsopen', 430, 430, '"tmpfs", 0'],
  ['open_tree', 428, 428, '-100, "/", 1'],
  ['move_mount', 429, 429, '-1, "", -1, "", 0'],
  ['mount_setattr', 442, 442, '-1, "", 0, 0, 0'],
  ['pivot_root', 155, 41, '"/nowhere", "/nowhere"'],
  ['chroot', 161, 51, '"/"'],
  ['unshare user', 272, 97, '0x10000000'],
  ['unshare mount', 272, 97, '0x20000'],
  ['unshare net', 272, 97, '0x40000000'],
  ['clone user', 56, 220, '0x10000000 | 17, 0, 0, 0, 0'],
  ['clone pid', 56, 220, '0x20000000 | 17, 0, 0, 0, 0'],
  ['setns', 308, 268, '$own, 0'],
  ['add_key', 248, 217, '"user", "x", "y", 1, -1'],
  ['request_key', 249, 218, '"user", "x", 0, 0'],
  ['keyctl', 250, 219, '0, -3, 1, 0, 0'],
  ['bpf', 321, 280, '0, 0, 0'],
  ['perf_event_open', 298, 241, '0, 0, -1, -1, 0'],
  ['userfaultfd', 323, 282, '0'],
  ['open_by_handle_at', 304, 265, '-1, 0, 0'],
  ['fanotify_init', 300, 262, '0, 0'],
  ['kexec_load', 246, 104, '0, 0, 0, 0'],
  ['init_module', 175, 105, '0, 0, ""'],
  ['finit_module', 313, 273, '-1, "", 0'],
  ['delete_module', 176, 106, '"no_such_module", 2048'],
  ['swapon', 167, 224, '"/nowhere", 0'],
  ['swapoff', 168, 225, '"/nowhere"'],
  ['acct', 163, 89, '"/nowhere"'],
  ['quotactl', 179, 60, '0x800001 << 8, 0, 0, 0'],
  ['sethostname', 170, 161, '"attacked", 8'],
  ['setdomainname', 171, 162, '"attacked", 8'],
  ['settimeofday', 164, 170, '0, 0'],
  ['clock_settime', 227, 112, '0, 0'],
  ['syslog', 103, 116, '10, 0, 0'],
  ['process_madvise', 440, 440, '-1, 0, 0, 0, 0'],
  ['pidfd_getfd', 438, 438, '-1, 0, 0'],
  ['kcmp', 312, 272, '$$, $$, 0, 0, 0'],
  ['vhangup', 153, 58, ''],
  ['mbind', 237, 235, '0, 0, 0, 0, 0, 0'],
  // ADDR_COMPAT_LAYOUT and READ_IMPLIES_EXEC make old flaws easier to use.
  ['personality', 135, 92, '0x0600000'],
  ['socket vsock', 41, 198, '40, 1, 0'],
  ['socket vsock, by 2^32 + 40', 41, 198, '2 ** 32 + 40, 1, 0'],
  ['socket alg', 41, 198, '38, 5, 0'],
  ['socket alg, by 2^32 + 38', 41, 198, '2 ** 32 + 38, 5, 0'],
  ['socket packet', 41, 198, '17, 3, 0'],
  ['socket raw', 41, 198, '2, 3, 255'],
  ['socket raw v6', 41, 198, '10, 3, 255'],
  ['socket bluetooth', 41, 198, '31, 3, 0'],
  ['mknod memory', 259, 33, '-100, "$top/mem", 0020600, 257'],
  ['mknod disk', 259, 33, '-100, "$top/disk", 0060600, 2048'],
]

/** The same for calls of x86 alone. */
const X64: readonly Probe[] = [
  ['iopl', 172, -1, '3'],
  ['ioperm', 173, -1, '0, 1, 1'],
  ['modify_ldt', 154, -1, '0, 0, 0'],
]

/** Answered as if the kernel did not have them. */
const NOT_THERE: readonly Probe[] = [
  ['io_uring_setup', 425, 425, '1, 0'],
  ['io_uring_enter', 426, 426, '-1, 0, 0, 0, 0, 0'],
  ['io_uring_register', 427, 427, '-1, 0, 0, 0'],
  ['clone3', 435, 435, '0, 0'],
]

/** Files that a task may neither change nor, `<`, read a byte of. */
const FILES: readonly string[] = [
  '< /proc/kcore',
  '< /proc/keys',
  '< /proc/timer_list',
  '> /proc/sysrq-trigger',
  '> /proc/sys/kernel/core_pattern',
  '> /proc/sys/kernel/hostname',
  '> /proc/sys/kernel/modprobe',
  '> /proc/sys/vm/drop_caches',
  '> /proc/sys/net/ipv4/ip_forward',
  '> /proc/irq/default_smp_affinity',
  '> /sys/kernel/profiling',
  '> /sys/power/state',
  '> /sys/module/kernel/parameters/panic',
]
/** The same of cgroup v1 and v2. */
const CGROUP_FILES: Readonly<Record<string, readonly string[]>> = {
  '1': [
    'memory/memory.limit_in_bytes',
    'pids/pids.max',
    'cpu/cpu.cfs_quota_us',
    'pids/cgroup.procs',
    'devices/devices.allow',
  ],
  '2': ['memory.max', 'pids.max', 'cpu.max', 'cgroup.procs', 'cgroup.subtree_control'],
}

const isX64 = process.arch === 'x64'

/** What a task must be told for each probe: an error's name, or `empty` for a file without a byte. */
export function expectations(cgroupVersion: string): Record<string, string> {
  const all: [string, string][] = [
    ...[...CALLS, ...(isX64 ? X64 : [])].map(([name]): [string, string] => [name, 'EPERM']),
    ...NOT_THERE.map(([name]): [string, string] => [name, 'ENOSYS']),
    ...filesOf(cgroupVersion).map((file): [string, string] => [file, 'closed']),
  ]
  return Object.fromEntries(all)
}

function filesOf(cgroupVersion: string): string[] {
  return [...FILES, ...(CGROUP_FILES[cgroupVersion] ?? []).map(file => `> /sys/fs/cgroup/${file}`)]
}

/**
 * A Perl program that makes every probe and prints `NAME\tANSWER` lines. Each is made in a process of its own, so that what
 * succeeds does not change what comes after it.
 */
export function attackProgram(cgroupVersion: string): string {
  const calls = [...CALLS, ...(isX64 ? X64 : []), ...NOT_THERE].map(([name, x64, arm64, args]) => {
    const number = isX64 ? x64 : arm64
    return `call('${name}', sub { my @a = (${args}); syscall(${number}, @a) });`
  })
  return `
use Errno; use POSIX ();
$| = 1;
my $top = "$ENV{HOME}/attacks"; my $dir = "$top/on"; mkdir $top; mkdir $dir;
open(my $ns, '<', '/proc/self/ns/uts'); my $own = fileno($ns);
sub told { my ($name, $answer) = @_; print "$name\\t$answer\\n" }
sub errno { my ($number) = @_; $! = $number; (grep { $!{$_} } sort keys %!)[0] // $number }
sub apart { my ($name, $do) = @_;
  my $pid = fork() // die; if ($pid == 0) { $do->(); POSIX::_exit(0) } waitpid($pid, 0);
  told($name, "signal " . ($? & 127)) if $? & 127 }
sub call { my ($name, $do) = @_; apart($name, sub {
  $! = 0; my $got = $do->(); my $error = $! + 0;
  POSIX::_exit(0) if $got == 0 && $name =~ /^clone/;
  told($name, $got == -1 ? errno($error) : 'done') }) }
sub file { my ($name, $mode, $path) = @_; apart($name, sub {
  open(my $file, $mode eq '<' ? '<' : '+<', $path) || open($file, $mode eq '<' ? '<' : '>>', $path)
    || return told($name, 'closed');
  return told($name, 'open') if $mode eq '>';
  my $got = sysread($file, my $byte, 1); told($name, $got ? 'open' : 'closed') }) }
${calls.join('\n')}
${filesOf(cgroupVersion)
  .map(file => `file('${file}', '${file[0]}', '${file.slice(2)}');`)
  .join('\n')}
`
}

/** Capabilities of the control's container: what an engine may give one, where it may give it at all. */
export const CONTROL_CAPABILITIES: readonly string[] = [
  'DAC_READ_SEARCH',
  'MKNOD',
  'NET_ADMIN',
  'NET_RAW',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_CHROOT',
  'SYS_MODULE',
  'SYS_NICE',
  'SYS_PACCT',
  'SYS_PTRACE',
  'SYS_RAWIO',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'SYSLOG',
]

/** Goes before the attacks in the control: what the kernel shows of itself becomes writable. */
export const CONTROL_PRELUDE = `
sub remount { my @a = ('', $_[0], '', $_[1], 0); syscall(${isX64 ? 165 : 40}, @a) }
remount($_, 32 | 4096) for '/proc/sys', '/sys', glob('/sys/fs/cgroup /sys/fs/cgroup/*');
remount('/sys', 32);
`

/** Reads what the program printed. */
export function answersOf(printed: string): Record<string, string> {
  return Object.fromEntries(
    printed
      .split('\n')
      .filter(line => line.includes('\t'))
      .map(line => line.split('\t') as [string, string]),
  )
}
