import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parseTask, type Task, type TaskInput } from '@agirunner/contracts'
import { dockerEngine } from '../engine/docker/docker-engine.js'
import type { ContainerEngine } from '../engine/engine.js'
import { LABELS, labelsOf, type Owner } from '../engine/labels.js'
import {
  type Egress,
  type NetworkMode,
  type NetworkOptions,
  Networks,
  type TaskNetwork,
} from '../execution/network/networks.js'
import { parseRanges } from '../support/address-ranges.js'
import { hostId, newWorkerId } from '../support/identity.js'
import { createLog, type Log } from '../support/log.js'

const run = promisify(execFile)
const IMAGE = process.env.AGIRUNNER_TEST_IMAGE ?? 'agirunner/debian-base:1'
const QUIET_LOG: Log = createLog('error', {})

export const realEngine = dockerEngine({ host: process.env.DOCKER_HOST ?? null, tls: false })

/** For tests that have no network of their own to care about. */
export function onlyNone(engine: ContainerEngine, owner: Owner): Promise<Networks> {
  return Networks.start({ engine, owner, log: QUIET_LOG, modes: new Set(['none']), opened: [], own: [] })
}

/** Runs a program of this machine. @returns what it wrote to stdout */
export async function sh(program: string, ...args: string[]): Promise<string> {
  return (await run(program, args, { maxBuffer: 64 * 2 ** 20 })).stdout
}

export interface Ran {
  readonly code: number
  readonly output: string
  readonly egress: Egress
  /** Places that events were told of. */
  readonly events: readonly { host: string; port: number }[]
}

export type Wanted = 'none' | 'open' | readonly string[]

/** A task with that network: `none`, `open` or the hosts that it may reach. */
export function taskWith(
  network: Wanted,
  more: { profile?: 'user' | 'root'; env?: Record<string, string> } = {},
): Task {
  const environment: NonNullable<TaskInput['environment']> = {
    ...more,
    network: typeof network === 'string' ? { mode: network } : { mode: 'allowlist', hosts: [...network] },
  }
  return parseTask({ taskId: `t-${randomUUID()}`, run: { script: 'true' }, environment })
}

/** A container that runs until it is told to end. */
export interface Neighbour {
  readonly id: string
  readonly address: string
  readonly network: TaskNetwork
  end(): Promise<void>
}

/** The networks of one worker, with containers as that worker makes them. */
export class NetworkFixture {
  readonly owner: Owner
  readonly networks: Networks

  private constructor(owner: Owner, networks: Networks) {
    this.owner = owner
    this.networks = networks
  }

  static async create(
    options: {
      modes?: NetworkMode[]
      opened?: string
      own?: NetworkOptions['own']
      engine?: ContainerEngine
      log?: Log
    } = {},
  ): Promise<NetworkFixture> {
    const owner = { worker: newWorkerId(), host: hostId(), stack: randomUUID() }
    const {
      modes = ['none', 'allowlist', 'open'],
      opened = '',
      own = [],
      engine = realEngine,
      log = QUIET_LOG,
    } = options
    const { ranges, problems } = parseRanges(opened)
    if (problems.length > 0) throw new Error(problems.join('; '))
    const networks = await Networks.start({ engine, owner, log, modes: new Set(modes), opened: ranges, own })
    return new NetworkFixture(owner, networks)
  }

  /** Runs a script as a task's command runs: its profile, its network, its environment. */
  async run(
    network: Wanted,
    script: string,
    more: Parameters<typeof taskWith>[1] & { networks?: TaskNetwork } = {},
  ): Promise<Ran> {
    const task = taskWith(network, more)
    const events: { host: string; port: number }[] = []
    const taken = await this.networks.acquire(task, place => events.push(place))
    try {
      const ended = await this.runIn(taken, script, more)
      return { ...ended, egress: await taken.egress(), events }
    } finally {
      await taken.release()
    }
  }

  /** The same in a network that is there already, or in any network of the engine's. */
  async runIn(
    network: Pick<TaskNetwork, 'name' | 'dns' | 'env'>,
    script: string,
    { profile = 'user', env = {} }: { profile?: 'user' | 'root'; env?: Record<string, string> } = {},
  ): Promise<{ code: number; output: string }> {
    const id = await this.#create(network, script, { profile, env })
    try {
      const reading = this.#read(id)
      await reading.attached
      await realEngine.start(id)
      const { exitCode } = await realEngine.exit(id, new AbortController().signal)
      return { code: exitCode, output: await reading.output }
    } finally {
      await realEngine.remove(id)
    }
  }

  /** Starts a container that runs a script in the background. */
  async neighbour(network: Wanted, script: string): Promise<Neighbour> {
    const taken = await this.networks.acquire(taskWith(network), () => undefined)
    const id = await this.#create(taken, script, { profile: 'user', env: {} })
    await realEngine.start(id)
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
    const address = (await sh('docker', 'inspect', '--format', format, id)).trim()
    return {
      id,
      address,
      network: taken,
      end: async () => {
        await realEngine.remove(id)
        await taken.release()
      },
    }
  }

  /** Ends it. @returns what is left on the engine and in the kernel */
  async close(): Promise<string[]> {
    await this.networks.close()
    return await this.leftovers()
  }

  async leftovers(): Promise<string[]> {
    const label = `${LABELS.worker}=${this.owner.worker}`
    const onEngine = [...(await realEngine.containers(label)), ...(await realEngine.networks(label))]
    const rules = (await rulesOf('iptables')) + (await rulesOf('ip6tables'))
    const lines = rules.split('\n').filter(line => line.includes(this.owner.worker))
    return [...onEngine.map(({ name }) => name), ...lines]
  }

  async #create(
    network: Pick<TaskNetwork, 'name' | 'dns' | 'env'>,
    script: string,
    { profile, env }: { profile: 'user' | 'root'; env: Record<string, string> },
  ): Promise<string> {
    const root = profile === 'root'
    return await realEngine.create({
      name: `agirunner-test-${randomUUID()}`,
      image: IMAGE,
      command: ['/bin/sh', '-c', script],
      env: Object.entries({ ...network.env, ...env }).map(([name, value]) => `${name}=${value}`),
      labels: labelsOf(this.owner, 'task', 'none'),
      user: root ? '0:0' : '10001:10001',
      readOnlyRoot: !root,
      capabilities: root ? ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'SETUID', 'SETGID'] : [],
      mounts: [],
      tmpfs: { '/tmp': `rw,exec,nosuid,nodev,mode=1777,size=${64 * 2 ** 20}` },
      cpus: 1,
      memoryBytes: 256 * 2 ** 20,
      pids: 128,
      shmBytes: 2 ** 20,
      network: network.name,
      dns: network.dns,
      runtime: null,
    })
  }

  #read(id: string): { attached: Promise<unknown>; output: Promise<string> } {
    const attached = realEngine.attach(id, new AbortController().signal)
    const output = (async () => {
      const chunks: Buffer[] = []
      for await (const { bytes } of await attached) chunks.push(bytes)
      return Buffer.concat(chunks).toString('utf8')
    })()
    return { attached, output }
  }
}

async function rulesOf(program: string): Promise<string> {
  return await sh(program, '-w', '10', '-S').catch(() => '')
}

/** A folder of the test's own. */
export async function withFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'agirunner-network-'))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
