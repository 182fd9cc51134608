import { Agent } from 'node:http'
import type { Readable } from 'node:stream'
import { inspect } from 'node:util'
import { TaskFailure } from '@agirunner/contracts'
import Docker from 'dockerode'
import { sleep } from '../../support/lifecycle.js'
import type {
  ContainerEngine,
  ContainerExit,
  ContainerSpec,
  ContainerSummary,
  ContainerUsage,
  EngineInfo,
  ImageInfo,
  OutputRun,
  VolumeSpec,
} from '../engine.js'
import { getArchive, putArchive } from './archive.js'
import { attachOutput } from './attach.js'
import { createBody } from './body.js'
import { asEngineError, hasStatus, toFailure } from './errors.js'
import { awaitExit, signalsTo, wasOutOfMemory } from './exit.js'
import { pullImage } from './pull.js'
import { readStats } from './stats.js'
import { timed } from './timed.js'

/** Where the engine is: as in DOCKER_HOST, null for the default socket; `tls` as in DOCKER_TLS_VERIFY. */
export interface EngineAddress {
  readonly host: string | null
  readonly tls: boolean
}

/** Speaks to anything with the Docker API. */
export function dockerEngine(address: EngineAddress): ContainerEngine {
  return new DockerEngine(new Docker(connection(address)))
}

/**
 * docker-modem prints its whole request for a debug line before it asks whether anybody reads it: through the agent that
 * is every kept socket and all that hangs on it, up to seconds for one call. This one shows nothing of itself.
 */
class OpaqueAgent extends Agent {
  [inspect.custom](): string {
    return 'Agent'
  }
}

function connection({ host, tls }: EngineAddress): Docker.DockerOptions {
  // With TLS dockerode reads the address and the certificates from DOCKER_HOST and DOCKER_CERT_PATH itself.
  if (tls) return {}
  // Kept connections: a new one per call costs about a millisecond, and a task makes a dozen.
  const kept = { agent: new OpaqueAgent({ keepAlive: true, maxSockets: 256 }) }
  if (host === null) return { socketPath: '/var/run/docker.sock', ...kept }
  if (host.startsWith('unix://')) return { socketPath: host.slice('unix://'.length), ...kept }
  const url = new URL(host.replace(/^tcp:/, 'http:'))
  return {
    protocol: url.protocol === 'https:' ? 'https' : 'http',
    host: url.hostname,
    port: url.port || '2375',
    ...kept,
  }
}

class DockerEngine implements ContainerEngine {
  readonly #docker: Docker

  constructor(docker: Docker) {
    this.#docker = docker
  }

  async info(): Promise<EngineInfo> {
    const [info, version] = await this.#call('engine.unavailable', 'ask the engine what it is', () =>
      Promise.all([this.#docker.info() as Promise<DockerInfo>, this.#docker.version()]),
    )
    return {
      name: info.OperatingSystem,
      version: version.Version,
      apiVersion: version.ApiVersion,
      cgroupVersion: info.CgroupVersion ?? '1',
      cgroupDriver: info.CgroupDriver ?? 'none',
      unenforced: unenforcedLimits(info),
      storageDriver: info.Driver,
      cpus: info.NCPU,
      memoryBytes: info.MemTotal,
      init: Boolean(info.InitBinary),
      securityOptions: info.SecurityOptions ?? [],
    }
  }

  async image(reference: string): Promise<ImageInfo | null> {
    try {
      const image = await timed(this.#docker.getImage(reference).inspect())
      return { id: image.Id, digest: image.RepoDigests?.[0] ?? null, env: image.Config?.Env ?? [] }
    } catch (error) {
      if (hasStatus(error, 404, 400)) return null
      throw toFailure(error, 'image.pull_failed', `look for image "${reference}"`)
    }
  }

  async pull(reference: string, options: Parameters<ContainerEngine['pull']>[1]): Promise<void> {
    await pullImage(this.#docker, reference, options)
  }

  async ensureNetwork(name: string, labels: Readonly<Record<string, string>>): Promise<void> {
    const known = await this.#call('container.create_failed', `look for network "${name}"`, () =>
      this.#docker.listNetworks({ filters: { name: [`^${name}$`] } }),
    )
    if (known.length > 0) return
    try {
      await timed(
        this.#docker.createNetwork({
          Name: name,
          Driver: 'bridge',
          CheckDuplicate: true,
          Labels: { ...labels },
          Options: { 'com.docker.network.bridge.enable_icc': 'false' },
        }),
      )
    } catch (error) {
      // Another worker made it between the two calls.
      if (!hasStatus(error, 409)) throw toFailure(error, 'container.create_failed', `make network "${name}"`)
    }
  }

  async removeNetwork(name: string): Promise<void> {
    try {
      await timed(this.#docker.getNetwork(name).remove())
    } catch (error) {
      // 403: containers of another worker are on it.
      if (!hasStatus(error, 403, 404))
        throw toFailure(error, 'engine.unavailable', `remove network "${name}"`)
    }
  }

  async createVolume(volume: VolumeSpec): Promise<void> {
    await this.#call('container.create_failed', `make volume ${volume.name}`, () =>
      this.#docker.createVolume({
        Name: volume.name,
        Driver: 'local',
        DriverOpts: { ...volume.options },
        Labels: { ...volume.labels },
      }),
    )
  }

  async removeVolume(name: string): Promise<void> {
    await this.#gone(`remove volume ${name}`, () => this.#docker.getVolume(name).remove({ force: true }))
  }

  async create(spec: ContainerSpec): Promise<string> {
    try {
      const container = await timed(this.#docker.createContainer(createBody(spec)))
      return container.id
    } catch (error) {
      if (hasStatus(error, 404) && /image/i.test(asEngineError(error).message)) {
        throw new TaskFailure(
          'image.not_found',
          `image "${spec.image}" is not on the engine's machine any more`,
        )
      }
      throw toFailure(error, 'container.create_failed', `create container ${spec.name}`)
    }
  }

  async start(id: string): Promise<void> {
    try {
      await timed(this.#docker.getContainer(id).start())
    } catch (error) {
      if (!hasStatus(error, 304))
        throw toFailure(error, 'container.start_failed', `start container ${id.slice(0, 12)}`)
    }
  }

  exit(id: string, signal: AbortSignal): Promise<ContainerExit> {
    return awaitExit(this.#docker, id, signal)
  }

  async wasOutOfMemory(id: string): Promise<boolean> {
    return await this.#call('engine.unavailable', `look at container ${id.slice(0, 12)}`, () =>
      wasOutOfMemory(this.#docker, id),
    )
  }

  async signalsTo(id: string): Promise<string[]> {
    return await this.#call('engine.unavailable', `ask for signals to container ${id.slice(0, 12)}`, () =>
      signalsTo(this.#docker, id),
    )
  }

  async usage(id: string): Promise<ContainerUsage | null> {
    return await this.#call('engine.unavailable', `measure container ${id.slice(0, 12)}`, () =>
      readStats(this.#docker, id),
    )
  }

  async kill(id: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await this.#gone(`signal container ${id.slice(0, 12)}`, () =>
      this.#docker.getContainer(id).kill({ signal }),
    )
  }

  async remove(id: string): Promise<void> {
    await this.#gone(`remove container ${id.slice(0, 12)}`, () =>
      this.#docker.getContainer(id).remove({ force: true, v: true }),
    )
    await this.#awaitRemoval(id)
  }

  /** A removal that another caller began answers 409 at once; this waits until it is done. */
  async #awaitRemoval(id: string): Promise<void> {
    for (let tries = 0; tries < 100; tries += 1) {
      try {
        await timed(this.#docker.getContainer(id).inspect())
      } catch (error) {
        if (hasStatus(error, 404)) return
        throw toFailure(error, 'engine.unavailable', `look whether container ${id.slice(0, 12)} is gone`)
      }
      await sleep(100)
    }
    throw new TaskFailure(
      'engine.unavailable',
      `container ${id.slice(0, 12)} could not be removed within 10 s`,
    )
  }

  attach(id: string, signal: AbortSignal): Promise<AsyncIterable<OutputRun>> {
    return attachOutput(this.#docker.getContainer(id), signal)
  }

  async putArchive(
    id: string,
    folder: string,
    archive: Readable,
    options: Parameters<ContainerEngine['putArchive']>[3],
  ): Promise<void> {
    await putArchive(this.#docker.getContainer(id), folder, archive, options)
  }

  getArchive(id: string, path: string, signal: AbortSignal): AsyncIterable<Buffer> {
    return getArchive(this.#docker.getContainer(id), path, signal)
  }

  async containers(label: string): Promise<ContainerSummary[]> {
    const list = await this.#call('engine.unavailable', 'list containers', () =>
      this.#docker.listContainers({ all: true, filters: { label: [label] } }),
    )
    return list.map(container => ({
      id: container.Id,
      name: (container.Names[0] ?? '').replace(/^\//, ''),
      state: container.State,
      labels: container.Labels,
    }))
  }

  async volumes(label: string): Promise<{ name: string; labels: Readonly<Record<string, string>> }[]> {
    const { Volumes: list } = await this.#call('engine.unavailable', 'list volumes', () =>
      this.#docker.listVolumes({ filters: { label: [label] } }),
    )
    return (list ?? []).map(volume => ({ name: volume.Name, labels: volume.Labels ?? {} }))
  }

  async #call<T>(
    code: 'engine.unavailable' | 'container.create_failed',
    doing: string,
    call: () => Promise<T>,
  ): Promise<T> {
    try {
      return await timed(call())
    } catch (error) {
      throw toFailure(error, code, doing)
    }
  }

  /** Runs a call that may find its object ended, gone or on its way out. */
  async #gone(doing: string, call: () => Promise<unknown>): Promise<void> {
    try {
      await timed(call())
    } catch (error) {
      const ended =
        hasStatus(error, 304, 404) || (hasStatus(error, 409) && !/in use/i.test(asEngineError(error).message))
      if (!ended) throw toFailure(error, 'engine.unavailable', doing)
    }
  }
}

interface DockerInfo {
  OperatingSystem: string
  CgroupVersion?: string
  CgroupDriver?: string
  MemoryLimit?: boolean
  SwapLimit?: boolean
  PidsLimit?: boolean
  CpuCfsQuota?: boolean
  Driver: string
  NCPU: number
  MemTotal: number
  InitBinary?: string
  SecurityOptions?: string[]
}

/** What an engine does not speak of it is taken to enforce, as Podman does. */
function unenforcedLimits({ MemoryLimit, SwapLimit, PidsLimit, CpuCfsQuota }: DockerInfo): string[] {
  const limits = { memory: MemoryLimit, swap: SwapLimit, processes: PidsLimit, CPU: CpuCfsQuota }
  return Object.entries(limits)
    .filter(([, enforced]) => enforced === false)
    .map(([name]) => name)
}
