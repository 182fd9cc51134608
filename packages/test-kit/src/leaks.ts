import { readFileSync } from 'node:fs'
import { readdir, readFile, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { connectEngine } from './engine.js'
import { eventually } from './eventually.js'

/** The label that everything bears which a worker makes on an engine. */
const MANAGED = 'agirunner.managed'

export interface LeakOptions {
  /** The engine as DOCKER_HOST would name it; by default what the environment says, else the default socket. */
  readonly dockerHost?: string
  /** The workers' data folder: its slots and the mounts below it are looked at. */
  readonly dataDir?: string
  /** Only what bears all of these labels too, such as `{'agirunner.worker': id}`. */
  readonly labels?: Readonly<Record<string, string>>
}

/**
 * What the runtime has left behind.
 *
 * @returns one line for each thing: `container …`, `volume …`, `network …`, `mount …`, `slot …`; empty when it is clean
 */
export async function leaks({ dockerHost, dataDir, labels = {} }: LeakOptions = {}): Promise<string[]> {
  const onEngine = await engineLeaks(connectEngine(dockerHost), labels)
  if (dataDir === undefined) return onEngine
  return [...onEngine, ...(await mountsBelow(dataDir)), ...(await slotsIn(dataDir))]
}

/**
 * Waits for everything to be gone.
 *
 * @param within how long, in milliseconds; 30 s by default
 * @throws Error that lists what is left
 */
export async function expectNoLeaks({
  within = 30_000,
  ...options
}: LeakOptions & { within?: number } = {}): Promise<void> {
  let left: string[] = []
  const clean = async () => {
    left = await leaks(options)
    return left.length === 0
  }
  try {
    await eventually(clean, { within, every: 250 })
  } catch (error) {
    if (left.length === 0) throw error
    throw new Error(`left behind after ${within} ms:\n  ${left.join('\n  ')}`, { cause: error })
  }
}

async function engineLeaks(docker: Docker, labels: Readonly<Record<string, string>>): Promise<string[]> {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  const filters = { label: [MANAGED, ...pairs] }
  const [containers, { Volumes: volumes }, networks] = await Promise.all([
    docker.listContainers({ all: true, filters }),
    docker.listVolumes({ filters }),
    docker.listNetworks({ filters }),
  ])
  return [
    ...containers.map(({ Id, Names, State }) => `container ${Names[0] ?? Id} (${State})`),
    ...(volumes ?? []).map(({ Name }) => `volume ${Name}`),
    ...networks.map(({ Name }) => `network ${Name}`),
  ]
}

async function mountsBelow(dataDir: string): Promise<string[]> {
  const folder = await realpath(dataDir).catch(() => dataDir)
  const table = await readFile('/proc/self/mountinfo', 'utf8')
  return table
    .split('\n')
    .map(line => unescapeField(line.split(' ')[4] ?? ''))
    .filter(point => point.startsWith(`${folder}/`) && !isOfLiveWorker(point, folder))
    .map(point => `mount ${point}`)
}

/** A live worker keeps disks ready for tasks to come, and shows by its slots what is in use; its id holds its pid and start. */
function isOfLiveWorker(point: string, folder: string): boolean {
  const [, pid, start] = /^\/disks\/w-(\d+)-(\d+)-/.exec(point.slice(folder.length)) ?? []
  if (pid === undefined) return false
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // After the name in parentheses, which may hold anything, the start is the 20th field.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] === start
  } catch {
    return false
  }
}

/** In mountinfo a blank, a tab, a newline and a backslash are written in octal, as `\040`. */
function unescapeField(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

async function slotsIn(dataDir: string): Promise<string[]> {
  const folder = join(dataDir, 'slots')
  try {
    return (await readdir(folder)).map(name => `slot ${join(folder, name)}`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
