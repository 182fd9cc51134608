import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { sh } from './network-fixture.js'

/** What every place answers that a task must not reach. */
export const SECRET = 'INSIDE-5f2c'

/** Two numbers that make names and addresses of this process its own. */
const [HIGH, LOW] = [process.pid >> 8, process.pid & 255].map(part => part % 250)

/** An HTTP server on all addresses of this machine, that answers with the secret. */
export async function serveSecret(host: string, port = 0): Promise<{ port: number; close(): void }> {
  const server: Server = createServer((_request, response) => response.end(SECRET)).listen(port, host)
  await once(server, 'listening')
  return {
    port: (server.address() as { port: number }).port,
    close: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** A UDP listener that keeps what it gets, and answers with the secret. */
export async function listenUdp(
  address: string,
  port = 0,
): Promise<{ port: number; got: string[]; close(): void }> {
  const socket: UdpSocket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  const got: string[] = []
  socket.on('message', (message, from) => {
    got.push(message.toString('latin1'))
    socket.send(SECRET, from.port, from.address)
  })
  socket.bind(port, address)
  await once(socket, 'listening')
  return { port: socket.address().port, got, close: () => socket.close() }
}

/** An address on an interface of its own, that this machine has until it is closed. */
export async function addAddress(address: string): Promise<() => Promise<void>> {
  const name = `agrt${process.pid % 100_000}d`
  await sh('ip', 'link', 'add', name, 'type', 'bridge')
  const remove = async () => void (await sh('ip', 'link', 'del', name))
  try {
    await sh('ip', 'addr', 'add', `${address}/32`, 'dev', name)
    await sh('ip', 'link', 'set', name, 'up')
    return remove
  } catch (error) {
    await remove()
    throw error
  }
}

/** Another machine of a private network: a network namespace behind a veth, with an HTTP server. */
export interface PrivateMachine {
  readonly address: string
  readonly port: number
  close(): Promise<void>
}

const WEB = `require('http').createServer((q, a) => a.end('${SECRET}')).listen(8080, '0.0.0.0', () => console.log('up'))`

export async function startPrivateMachine(): Promise<PrivateMachine> {
  const name = `agrt${process.pid % 100_000}`
  const [near, far] = [1, 2].map(last => `10.${HIGH}.${LOW}.${last}`)
  let server: ChildProcess | null = null
  const close = async () => {
    if (server && server.exitCode === null) {
      const gone = once(server, 'exit')
      server.kill('SIGKILL')
      await gone
    }
    await sh('ip', 'netns', 'del', name)
    await sh('ip', 'link', 'del', `${name}v`).catch(() => '')
  }
  await sh('ip', 'netns', 'add', name)
  try {
    await sh('ip', 'link', 'add', `${name}v`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    await sh('ip', 'addr', 'add', `${near}/30`, 'dev', `${name}v`)
    await sh('ip', 'link', 'set', `${name}v`, 'up')
    const inside = (...args: string[]) => sh('ip', '-n', name, ...args)
    await inside('addr', 'add', `${far}/30`, 'dev', 'eth0')
    await inside('link', 'set', 'eth0', 'up')
    await inside('route', 'add', 'default', 'via', near ?? '')
    server = spawn('ip', ['netns', 'exec', name, process.execPath, '-e', WEB], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(server.stdout ?? server, 'data')
    return { address: far ?? '', port: 8080, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** A network that Docker makes by itself, without any rule of ours: the control of every attack. */
export async function plainNetwork(...options: string[]): Promise<{ name: string; close(): Promise<void> }> {
  const name = `agirunner-test-${process.pid}-${Math.random().toString(36).slice(2, 8)}`
  await sh('docker', 'network', 'create', ...options, name)
  return { name, close: async () => void (await sh('docker', 'network', 'rm', name)) }
}

/** A shell command that asks for a place without any proxy, for three seconds at most. */
export const reach = (url: string) => `curl -gsS -m 3 --noproxy '*' '${url}' 2>&1`

/** The same by UDP, and prints what comes back. */
export const reachUdp = (address: string, port: number, text = 'hello') =>
  perl(`
    my $to = '${address}';
    my ($family, $place) = $to =~ /:/
      ? (AF_INET6, pack_sockaddr_in6(${port}, inet_pton(AF_INET6, $to)))
      : (AF_INET, pack_sockaddr_in(${port}, inet_aton($to)));
    socket(my $s, $family, SOCK_DGRAM, 0) or die "socket: $!";
    connect($s, $place) or die "connect: $!";
    send($s, ${text.startsWith('pack') ? text : `"${text}"`}, 0) or die "send: $!";
    local $SIG{ALRM} = sub { die "nothing came back" };
    alarm 2;
    defined recv($s, my $answer, 2000, 0) or die "recv: $!";
    print $answer;
  `)

/** A query for a name, as a resolver's client sends it. */
export const dnsQuery = (address: string, port: number, name: string) => {
  const labels = name.split('.').map(label => `chr(${label.length}).'${label}'`)
  return reachUdp(address, port, `pack('n6', 7, 256, 1, 0, 0, 0).${labels.join('.')}.chr(0).pack('nn', 1, 1)`)
}

export function perl(script: string): string {
  return `perl -MSocket=:all -e '${script.replaceAll("'", `'\\''`)}' 2>&1`
}
