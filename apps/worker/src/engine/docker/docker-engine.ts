import { Agent } from 'node:http'
import type { Readable } from 'node:stream'
import { inspect } from 'node:util'
import { readEngineFacts, TaskFailure } from '@agirunner/contracts'
import Docker from 'dockerode'
import { sleep } from '../../support/lifecycle.js'
import { NO_ROSTER, type Roster } from '../../support/roster.js'
import type {
  ContainerEngine,
  ContainerExit,
  ContainerSpec,
  ContainerSummary,
  ContainerUsage,
  EngineInfo,
  ImageInfo,
  ImageSummary,
  NetworkSpec,
  OutputRun,
  VolumeSpec,
} from '../engine.js'
import { keptUntil } from '../labels.js'
import { type Allowed, bodyCheck } from './allowed-body.js'
import { getArchive, putArchive } from './archive.js'
import { attachOutput } from './attach.js'
import { createBody, limitsBody, networkBody } from './body.js'
import { asEngineError, hasStatus, toFailure } from './errors.js'
import { awaitExit, signalsTo, startedAt, wasOutOfMemory } from './exit.js'
import { openStream } from './open-stream.js'
import { askRegistry, pullImage } from './pull.js'
import { madeOf } from './roster-entry.js'
import { imageFault } from './start-failure.js'
import { readStats } from './stats.js'
import { timed } from './timed.js'

/** Where the engine is: as in DOCKER_HOST, null for the default socket; `tls` as in DOCKER_TLS_VERIFY. */
export interface EngineAddress {
  readonly host: string | null
  readonly tls: boolean
}

/** Told of each pull why it failed: a failure's code, `aborted`, or null when it did not. */
type Pulled = (code: string | null) => void

/**
 * Speaks to anything with the Docker API.
 *
 * @param allowed what its containers may have of the machine; by default no folder and no runtime but the engine's own
 * @param roster told of the containers that are made by it
 */
export function dockerEngine(
  address: EngineAddress,
  allowed: Allowed = { bindRoots: [], runtimes: [] },
  pulled: Pulled = () => undefined,
  roster: Roster = NO_ROSTER,
): ContainerEngine {
  return new DockerEngine(new Docker(connection(address)), allowed, pulled, roster)
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
  readonly #check: ReturnType<typeof bodyCheck>
  readonly #pulled: Pulled
  readonly #roster: Roster

  constructor(docker: Docker, allowed: Allowed, pulled: Pulled, roster: Roster) {
    this.#roster = roster
    this.#docker = docker
    this.#pulled = pulled
    this.#check = bodyCheck(allowed)
  }

  async ping(): Promise<void> {
    await this.#call('engine.unavailable', 'ask whether the engine answers', () => this.#docker.ping())
  }

  async info(): Promise<EngineInfo> {
    const [info, version] = await this.#call('engine.unavailable', 'ask the engine what it is', () =>
      Promise.all([this.#docker.info() as Promise<DockerInfo>, this.#docker.version()]),
    )
    return {
      name: info.OperatingSystem,
      version: version.Version,
      apiVersion: version.ApiVersion,
      platform: `${version.Os}/${version.Arch}`,
      cgroupVersion: info.CgroupVersion ?? '1',
      cgroupDriver: info.CgroupDriver ?? 'none',
      storageDriver: info.Driver,
      cpus: info.NCPU,
      memoryBytes: info.MemTotal,
      facts: readEngineFacts(info),
    }
  }

  async image(reference: string): Promise<ImageInfo | null> {
    try {
      const image = await timed(this.#docker.getImage(reference).inspect())
      return {
        id: image.Id,
        repoDigests: image.RepoDigests ?? [],
        platform: `${image.Os}/${image.Architecture}`,
        env: image.Config?.Env ?? [],
        volumes: Object.keys(image.Config?.Volumes ?? {}),
      }
    } catch (error) {
      if (hasStatus(error, 404, 400)) return null
      throw toFailure(error, 'image.pull_failed', `look for image "${reference}"`)
    }
  }

  async images(): Promise<ImageSummary[]> {
    const list = await this.#call('engine.unavailable', 'list images', () => this.#docker.listImages())
    return list.map(image => ({
      id: image.Id,
      names: [...(image.RepoTags ?? []), ...(image.RepoDigests ?? [])],
    }))
  }

  async watchImages({
    onListening,
    onChange,
    signal,
  }: Parameters<ContainerEngine['watchImages']>[0]): Promise<void> {
    const events = await openStream(this.#docker.getEvents({ filters: { type: ['image'] } }), signal)
    onListening()
    for await (const _ of events) onChange()
  }

  async pull(reference: string, options: Parameters<ContainerEngine['pull']>[1]): Promise<void> {
    try {
      await pullImage(this.#docker, reference, options)
    } catch (error) {
      this.#pulled(error instanceof TaskFailure ? error.code : 'aborted')
      throw error
    }
    this.#pulled(null)
  }

  async askRegistry(
    reference: string,
    options: Parameters<ContainerEngine['askRegistry']>[1],
  ): Promise<void> {
    await askRegistry(this.#docker, reference, options)
  }

  async createNetwork(network: NetworkSpec): Promise<boolean> {
    try {
      await timed(this.#docker.createNetwork(networkBody(network)))
      return true
    } catch (error) {
      if (/overlap/i.test(asEngineError(error).message)) return false
      throw toFailure(error, 'container.create_failed', `make network "${network.name}"`)
    }
  }

  async networkInUse(name: string): Promise<boolean> {
    const inspect = async () =>
      (await timed(this.#docker.getNetwork(name).inspect())) as Docker.NetworkInspectInfo
    return await inspect().then(
      network => Object.keys(network.Containers ?? {}).length > 0,
      () => true,
    )
  }

  async networks(label: string): Promise<{ name: string; labels: Readonly<Record<string, string>> }[]> {
    const list = await this.#call('engine.unavailable', 'list networks', () =>
      this.#docker.listNetworks({ filters: { label: [label] } }),
    )
    return list.map(network => ({ name: network.Name, labels: network.Labels ?? {} }))
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

  async writtenBytes(id: string): Promise<number | null> {
    const found = await this.#call('engine.unavailable', `measure container ${id.slice(0, 12)}`, () =>
      this.#docker.getContainer(id).inspect({ size: true } as object),
    )
    return (found as { SizeRw?: number }).SizeRw ?? null
  }

  async volumeBytes(names: readonly string[]): Promise<number> {
    const { Volumes: volumes } = (await this.#call('engine.unavailable', 'measure volumes', () =>
      this.#docker.df(),
    )) as { Volumes?: { Name: string; UsageData?: { Size: number } | null }[] | null }
    const known = (volumes ?? []).filter(({ Name }) => names.includes(Name))
    return known.reduce((sum, { UsageData }) => sum + Math.max(0, UsageData?.Size ?? 0), 0)
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
    const body = this.#check(createBody(spec))
    try {
      const container = await timed(this.#docker.createContainer(body))
      this.#roster.made(container.id, madeOf(spec))
      return container.id
    } catch (error) {
      if (hasStatus(error, 404) && /image/i.test(asEngineError(error).message)) {
        throw new TaskFailure(
          'image.not_found',
          `image "${spec.image}" is not on the engine's machine any more`,
        )
      }
      throw imageFault(error) ?? toFailure(error, 'container.create_failed', `create container ${spec.name}`)
    }
  }

  async start(id: string): Promise<void> {
    try {
      await timed(this.#docker.getContainer(id).start())
    } catch (error) {
      if (!hasStatus(error, 304))
        throw (
          imageFault(error) ??
          toFailure(error, 'container.start_failed', `start container ${id.slice(0, 12)}`)
        )
    }
    this.#roster.started(id)
  }

  async exit(id: string, signal: AbortSignal): Promise<ContainerExit> {
    const exit = await awaitExit(this.#docker, id, signal)
    this.#roster.ended(id)
    return exit
  }

  async startedAt(id: string): Promise<number | null> {
    return await this.#call('engine.unavailable', `look at container ${id.slice(0, 12)}`, () =>
      startedAt(this.#docker, id),
    )
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
    this.#roster.stopping(id)
    await this.#gone(`signal container ${id.slice(0, 12)}`, () =>
      this.#docker.getContainer(id).kill({ signal }),
    )
  }

  async rename(id: string, name: string): Promise<void> {
    await this.#call('container.create_failed', `rename container ${id.slice(0, 12)} to ${name}`, () =>
      this.#docker.getContainer(id).rename({ name }),
    )
    this.#roster.renamed(id, name, keptUntil(name) !== null)
  }

  async setLimits(
    id: string,
    { cpus, memoryBytes }: Pick<ContainerSpec, 'cpus' | 'memoryBytes'>,
  ): Promise<void> {
    await this.#call('container.create_failed', `change the limits of container ${id.slice(0, 12)}`, () =>
      this.#docker.getContainer(id).update(limitsBody({ cpus, memoryBytes })),
    )
    this.#roster.limited(id, { cpus, memoryBytes })
  }

  async disconnect(id: string, network: string): Promise<void> {
    await this.#gone(`take container ${id.slice(0, 12)} off network "${network}"`, () =>
      this.#docker.getNetwork(network).disconnect({ Container: id, Force: true }),
    )
  }

  async remove(id: string): Promise<void> {
    await this.#gone(`remove container ${id.slice(0, 12)}`, () =>
      this.#docker.getContainer(id).remove({ force: true, v: true }),
    )
    await this.#awaitRemoval(id)
    this.#roster.removed(id)
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
  Driver: string
  NCPU: number
  MemTotal: number
}
