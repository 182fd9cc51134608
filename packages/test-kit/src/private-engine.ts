import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { connectEngine } from './engine.js'
import { eventually } from './eventually.js'

const run = promisify(execFile)

/** A container engine of a test's own, without networks, which the test may kill and bring back. */
export interface PrivateEngine {
  /** As DOCKER_HOST would name it. */
  readonly host: string
  /** Ends it as a crash would: what runs in containers goes on. */
  kill(): Promise<void>
  /** Starts it again, with what it had. */
  resume(): Promise<void>
  /** Ends it, its containers and all that it left. */
  stop(): Promise<void>
}

/** Starts a `dockerd` of the PATH, as root, and gives it an image of the engine that tests share. */
export async function startPrivateEngine(image: string): Promise<PrivateEngine> {
  const folder = await mkdtemp(join(tmpdir(), 'agirunner-engine-'))
  const host = `unix://${folder}/sock`
  let child: ChildProcess | null = await launch(folder, host)
  const end = async (signal: NodeJS.Signals) => {
    const ending = child
    child = null
    if (!ending) return
    const exited = once(ending, 'exit')
    ending.kill(signal)
    await exited
  }
  const resume = async () => {
    child ??= await launch(folder, host)
  }
  await copyImage(image, host)
  return {
    host,
    kill: () => end('SIGKILL'),
    resume,
    stop: async () => {
      await resume()
      const docker = connectEngine(host)
      for (const { Id } of await docker.listContainers({ all: true }))
        await docker.getContainer(Id).remove({ force: true, v: true })
      await end('SIGTERM')
      await unmountBelow(folder)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function launch(folder: string, host: string): Promise<ChildProcess> {
  // Its containerd dies with it, but may stay as a zombie, which it would take for alive.
  await rm(join(folder, 'exec/containerd/containerd.pid'), { force: true })
  const places = ['--data-root', join(folder, 'data'), '--exec-root', join(folder, 'exec')]
  const alone = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--pidfile', join(folder, 'pid')]
  const log = openSync(join(folder, 'log'), 'a')
  // In a network namespace of its own: an engine without a bridge removes the one that it finds, `docker0` of another.
  const command = ['--net', 'dockerd', '--host', host, ...places, ...alone]
  const child = spawn('unshare', command, { stdio: ['ignore', log, log] })
  closeSync(log)
  await once(child, 'spawn')
  const docker = connectEngine(host)
  try {
    await eventually(async () => (await docker.ping()).toString() === 'OK', {
      within: 30_000,
      what: 'dockerd',
    })
  } catch (error) {
    child.kill('SIGKILL')
    throw new Error(`${String(error)}\n${await readFile(join(folder, 'log'), 'utf8')}`, { cause: error })
  }
  return child
}

async function copyImage(image: string, host: string): Promise<void> {
  const saved = spawn('docker', ['save', image], { stdio: ['ignore', 'pipe', 'inherit'] })
  const loaded = spawn('docker', ['--host', host, 'load', '--quiet'], {
    stdio: ['pipe', 'ignore', 'inherit'],
  })
  const ended = once(loaded, 'exit')
  await pipeline(saved.stdout, loaded.stdin)
  const [code] = await ended
  if (code !== 0) throw new Error(`docker load ended with ${String(code)}`)
}

async function unmountBelow(folder: string): Promise<void> {
  const table = await readFile('/proc/self/mounts', 'utf8')
  const points = table.split('\n').map(line => line.split(' ')[1] ?? '')
  for (const point of points.filter(one => one.startsWith(`${folder}/`)).toReversed())
    await run('umount', [point])
}
