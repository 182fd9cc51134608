/**
 * What builds and tests do all the time, each in a line of its own: `NAME` when it works. Perl numbers of calls are of
 * x86-64 and arm64.
 */
const call = (x64: number, arm64: number) => (process.arch === 'x64' ? x64 : arm64)

const SHARED: Readonly<Record<string, string>> = {
  sleep: 'sleep 0.01',
  signals: `perl -e '$SIG{USR1} = sub { exit 0 }; kill USR1 => $$; exit 1'`,
  'process groups': `perl -e 'my $p = fork; if (!$p) { setpgrp; sleep 60 } select undef, undef, undef, 0.1; exit !kill -9, $p'`,
  pipes: 'seq 1000 | sort -rn | head -1 | grep -qx 1000',
  fork: `perl -e 'for (1..20) { my $p = fork; exit 0 if !$p; waitpid $p, 0; $? && die }'`,
  threads:
    'cd "$HOME" && git init -q t && cd t && seq 2000 >a && git add a && git commit -qm a && git -c pack.threads=4 gc -q && git grep --threads 4 -q 1999',
  'own child traced': `perl -e 'my $p = fork; if (!$p) { my @t = (0, 0, 0, 0); exit(syscall(${call(101, 117)}, @t) ? 1 : 0) } waitpid $p, 0; exit($? ? 1 : 0)'`,
  'unix sockets': `perl -MSocket -e 'socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, 0) or die; syswrite $a, "x"; sysread $b, my $x, 1; exit $x ne "x"'`,
  'named unix socket': `perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; bind($s, pack_sockaddr_un("$ENV{HOME}/s")) or die; listen($s, 1) or die'`,
  loopback: `perl -MSocket -e 'socket(my $s, AF_INET, SOCK_STREAM, 0) or die; bind($s, pack_sockaddr_in(0, INADDR_LOOPBACK)) or die; listen($s, 1) or die; socket(my $c, AF_INET, SOCK_STREAM, 0) or die; connect($c, getsockname $s) or die'`,
  'ip v6 socket': `perl -MSocket -e 'socket(my $s, AF_INET6, SOCK_STREAM, 0) or die'`,
  netlink: `perl -e 'my @a = (16, 3, 0); exit(syscall(${call(41, 198)}, @a) < 0 ? 1 : 0)'`,
  inotify: `perl -e 'my $f = syscall(${call(294, 26)}, 0); $f >= 0 or die; my @a = ($f, $ENV{HOME}, 2); exit(syscall(${call(254, 27)}, @a) < 0 ? 1 : 0)'`,
  epoll: `perl -e 'exit(syscall(${call(291, 20)}, 0) < 0 ? 1 : 0)'`,
  timerfd: `perl -e 'exit(syscall(${call(283, 85)}, 1, 0) < 0 ? 1 : 0)'`,
  eventfd: `perl -e 'exit(syscall(${call(290, 19)}, 0, 0) < 0 ? 1 : 0)'`,
  signalfd: `perl -e 'my @a = (-1, "\\0" x 8, 8, 0); exit(syscall(${call(289, 74)}, @a) < 0 ? 1 : 0)'`,
  memfd: `perl -e 'my @a = ("x", 0); exit(syscall(${call(319, 279)}, @a) < 0 ? 1 : 0)'`,
  'random bytes': `perl -e 'my @a = ("\\0" x 16, 16, 0); exit(syscall(${call(318, 278)}, @a) != 16)'`,
  'who am I to the kernel': `perl -e 'exit(syscall(${call(135, 92)}, 0xffffffff) != 0)'`,
  'a newer way to open': `perl -e 'my @a = (-100, "/", "\\0" x 24, 24); exit(syscall(437, @a) < 0 ? 1 : 0)'`,
  'a sandbox of its own': `perl -e 'my @a = (38, 1, 0, 0, 0); exit(syscall(${call(157, 167)}, @a) < 0 ? 1 : 0)'`,
  'executable memory': `perl -e 'my @a = (0, 4096, 7, 34, -1, 0); exit(syscall(${call(9, 222)}, @a) == -1)'`,
  locks: 'flock "$HOME" true',
  'extended attributes': `perl -e 'my @a = ($ENV{HOME}, "user.x", "y", 1, 0); my $r = syscall(${call(188, 5)}, @a); exit($r < 0 && !$!{EOPNOTSUPP} && !$!{ENOTSUP} ? 1 : 0)'`,
  links: 'cd "$HOME" && echo x >f && ln f g && ln -s f h && mkfifo p && test "$(cat h)" = x',
  modes: 'cd "$HOME" && touch m && chmod 0754 m && test "$(stat -c %a m)" = 754',
  'shared memory': 'echo x >/dev/shm/x && rm /dev/shm/x',
  'executables in /tmp': 'cp /bin/true /tmp/my-true && /tmp/my-true',
  'a terminal of its own': `perl -e 'open(my $p, "+<", "/dev/ptmx") or die'`,
  affinity: 'test "$(nproc)" -ge 1 && taskset -p $$ >/dev/null',
  niceness: 'nice -n 5 true',
  limits: 'ulimit -n | grep -qx 4096 && ulimit -c | grep -qx 0',
  'git with a clone': 'cd "$HOME" && git clone -q t u && git -C u log -1 --format=%s | grep -qx a',
  tar: 'cd "$HOME" && tar cf t.tar t && mkdir x && tar xf t.tar -C x',
}

/** And what a package manager does as root. */
const AS_ROOT: Readonly<Record<string, string>> = {
  'other owners': 'touch /srv/o && chown 1234:1234 /srv/o && test "$(stat -c %u /srv/o)" = 1234',
  'files of others': 'chmod 600 /srv/o && echo x >>/srv/o && chmod 4755 /srv/o && rm /srv/o',
  'another user': `perl -e '$) = "1234 1234"; $( = 1234; $< = $> = 1234; exit($> == 1234 && $< == 1234 ? 0 : 1)'`,
  'a new user': 'groupadd -r builders && useradd -r -g builders builder && id builder >/dev/null',
  'a package with scripts':
    'mkdir -p /srv/p/DEBIAN /srv/p/opt/p && cd /srv/p && printf "Package: sandbox-probe\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@example.com>\\nDescription: x\\n" >DEBIAN/control && printf "#!/bin/sh\\nset -e\\nchown 1234:1234 /opt/p/f\\n" >DEBIAN/postinst && chmod 755 DEBIAN/postinst && echo x >opt/p/f && dpkg-deb -b . /srv/p.deb >/dev/null && dpkg -i /srv/p.deb >/dev/null && test "$(stat -c %u /opt/p/f)" = 1234 && dpkg -r sandbox-probe >/dev/null && test ! -e /opt/p/f',
  'a place in /etc': 'echo x >/etc/agirunner-test && rm /etc/agirunner-test',
}

const checksOf = (profile: 'user' | 'root') => ({ ...SHARED, ...(profile === 'root' ? AS_ROOT : {}) })

export const namesOf = (profile: 'user' | 'root'): string[] => Object.keys(checksOf(profile))

/** A script that prints the name of each check that succeeds, and of others what they said. */
export function worksScript(profile: 'user' | 'root'): string {
  return Object.entries(checksOf(profile))
    .map(
      ([name, check]) =>
        `if (${check}) >"$HOME/said" 2>&1; then echo '${name}'; else echo '${name} FAILED:' $(cat "$HOME/said"); fi`,
    )
    .join('\n')
}
