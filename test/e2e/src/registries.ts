import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const BASE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'

/** Where packages come from, and one small package of each kind. */
export interface Registries {
  readonly name: string
  readonly npm: { readonly url: string; readonly package: string }
  readonly apt: { readonly sources: string; readonly urls: readonly string[]; readonly package: string }
  /** Certificates that clients need, as PEM; empty for their own. */
  readonly ca: string
  /** For AGIRUNNER_EGRESS_PRIVATE: addresses of these that count as private. */
  readonly private: readonly string[]
  close(): Promise<void>
}

/** `name`, or `name:port`, as a task lists it. */
export function hostOf(url: string): string {
  return new URL(url).host
}

/**
 * Those that this machine is set up with.
 *
 * @returns null when they can't be reached
 */
export async function machineRegistries(): Promise<Registries | null> {
  const npm = (await run('npm', ['config', 'get', 'registry'])).stdout.trim()
  const { stdout: sources } = await run('docker', [
    'run',
    '--rm',
    '--network=none',
    BASE,
    'sh',
    '-c',
    SHOW_SOURCES,
  ])
  const urls = [...sources.matchAll(/https?:\/\/[^\s\]]+/g)].map(([url]) => url)
  const answers = await Promise.all([npm, ...urls].map(url => reaches(url)))
  if (urls.length === 0 || answers.includes(false)) return null
  const hosts = [...new Set([npm, ...urls].map(url => new URL(url).hostname))]
  const found = await Promise.all(hosts.map(host => lookup(host, { all: true })))
  const extra = process.env.NODE_EXTRA_CA_CERTS ?? process.env.SSL_CERT_FILE
  return {
    name: 'the registries of this machine',
    npm: { url: npm, package: 'ms' },
    apt: { sources: '', urls, package: 'hello' },
    ca: extra === undefined ? '' : await readFile(extra, 'utf8'),
    private: found.flat().map(({ address }) => address),
    close: () => Promise.resolve(),
  }
}

const SHOW_SOURCES = 'cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null; true'

async function reaches(url: string): Promise<boolean> {
  try {
    await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(10_000) })
    return true
  } catch {
    return false
  }
}

/** A web server for the files of a folder. */
const SERVE = `
  const { createReadStream } = require('node:fs')
  require('node:http').createServer((request, response) => {
    const file = createReadStream(process.argv[1] + decodeURIComponent(new URL(request.url, 'http://x').pathname))
    file.on('error', () => response.writeHead(404).end()).pipe(response)
  }).listen(8080, '0.0.0.0', () => console.log('up'))
`

/**
 * A tiny npm registry, a tiny apt repository and a git repository on another machine: a network namespace behind a veth,
 * at a private address.
 */
export async function ownRegistries(): Promise<Registries & { readonly git: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'agirunner-registries-'))
  const name = `agrt${process.pid % 100_000}r`
  const net = `10.${(process.pid >> 8) % 250}.${process.pid % 250}`
  const address = `${net}.6`
  const url = `http://${address}:8080`
  let server: ChildProcess | null = null
  const close = async () => {
    if (server && server.exitCode === null) {
      const gone = once(server, 'exit')
      server.kill('SIGKILL')
      await gone
    }
    await run('ip', ['netns', 'del', name]).catch(() => undefined)
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await Promise.all([writeNpm(folder, url), writeApt(folder), writeGit(folder)])
    await addMachine(name, `${net}.5`, address)
    server = spawn('ip', ['netns', 'exec', name, process.execPath, '-e', SERVE, folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(server.stdout ?? server, 'data')
  } catch (error) {
    await close()
    throw error
  }
  return {
    name: 'registries of the test’s own',
    npm: { url: `${url}/npm/`, package: 'agirunner-small' },
    apt: { sources: `deb [trusted=yes] ${url}/apt ./`, urls: [url], package: 'agirunner-small' },
    git: `${url}/repository.git`,
    ca: '',
    private: [address],
    close,
  }
}

async function addMachine(name: string, near: string, far: string): Promise<void> {
  const ip = async (...args: string[]) => void (await run('ip', args))
  await ip('netns', 'add', name)
  await ip('link', 'add', `${name}v`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
  await ip('addr', 'add', `${near}/30`, 'dev', `${name}v`)
  await ip('link', 'set', `${name}v`, 'up')
  await ip('-n', name, 'addr', 'add', `${far}/30`, 'dev', 'eth0')
  await ip('-n', name, 'link', 'set', 'eth0', 'up')
  await ip('-n', name, 'route', 'add', 'default', 'via', near)
}

async function writeNpm(folder: string, url: string): Promise<void> {
  const source = join(folder, 'source')
  await mkdir(source)
  await mkdir(join(folder, 'npm'))
  const manifest = { name: 'agirunner-small', version: '1.0.0', main: 'index.js' }
  await writeFile(join(source, 'package.json'), JSON.stringify(manifest))
  await writeFile(join(source, 'index.js'), `module.exports = 'small and there'\n`)
  const packed = await run('npm', ['pack', '--pack-destination', join(folder, 'npm')], { cwd: source })
  const tarball = packed.stdout.trim().split('\n').at(-1) ?? ''
  const digest = createHash('sha512').update(await readFile(join(folder, 'npm', tarball)))
  const dist = { tarball: `${url}/npm/${tarball}`, integrity: `sha512-${digest.digest('base64')}` }
  const index = {
    name: manifest.name,
    'dist-tags': { latest: '1.0.0' },
    versions: { '1.0.0': { ...manifest, dist } },
  }
  await writeFile(join(folder, 'npm', manifest.name), JSON.stringify(index))
}

const MAKE_DEB = `set -e; mkdir -p /p/DEBIAN /p/usr/share/agirunner-small; cd /p
  printf '%s\\n' 'Package: agirunner-small' 'Version: 1' 'Architecture: all' 'Maintainer: nobody <nobody@example.com>' \
    'Description: small' >DEBIAN/control
  echo small and there >usr/share/agirunner-small/text
  dpkg-deb --build --root-owner-group /p /tmp/p.deb >/dev/null; cat DEBIAN/control; echo; base64 /tmp/p.deb`

async function writeApt(folder: string): Promise<void> {
  const apt = join(folder, 'apt')
  await mkdir(apt)
  const { stdout } = await run('docker', ['run', '--rm', '--network', 'none', BASE, 'sh', '-c', MAKE_DEB])
  const [control = '', encoded = ''] = stdout.split('\n\n')
  const deb = Buffer.from(encoded, 'base64')
  await writeFile(join(apt, 'small.deb'), deb)
  const sha256 = createHash('sha256').update(deb).digest('hex')
  const entry = `${control}\nFilename: ./small.deb\nSize: ${deb.length}\nSHA256: ${sha256}\n`
  await writeFile(join(apt, 'Packages'), entry)
}

async function writeGit(folder: string): Promise<void> {
  const [work, bare] = [join(folder, 'work'), join(folder, 'repository.git')]
  const identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.com']
  await run('git', ['init', '-q', '-b', 'main', work])
  await writeFile(join(work, 'cloned.txt'), 'cloned and there\n')
  await run('git', ['-C', work, 'add', '.'])
  await run('git', ['-C', work, ...identity, 'commit', '-qm', 'one'])
  await run('git', ['clone', '-q', '--bare', work, bare])
  await run('git', ['-C', bare, 'update-server-info'])
}

/** The base image with this machine's Node and npm. @returns its name */
export async function importNodeImage(): Promise<{ name: string; remove(): Promise<void> }> {
  const name = `agirunner-test/node-${process.pid}:1`
  const npm = dirname(dirname(await realpath((await run('sh', ['-c', 'command -v npm'])).stdout.trim())))
  const { stdout } = await run('docker', ['create', '--network', 'none', BASE, 'true'])
  const container = stdout.trim()
  try {
    await run('docker', ['cp', '-L', process.execPath, `${container}:/usr/local/bin/node`])
    await run('docker', ['cp', npm, `${container}:/opt/npm`])
    await run('docker', ['commit', container, name])
  } finally {
    await run('docker', ['rm', '-f', container])
  }
  return { name, remove: async () => void (await run('docker', ['rmi', '-f', name])) }
}
