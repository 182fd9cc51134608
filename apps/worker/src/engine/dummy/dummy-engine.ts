import type { Readable } from 'node:stream'
import { readEngineFacts, TaskFailure } from '@agirunner/contracts'
import type {
  ContainerEngine,
  ContainerExit,
  ContainerSpec,
  ContainerSummary,
  EngineInfo,
  ImageInfo,
  ImageSummary,
  NetworkSpec,
  OutputRun,
  VolumeSpec,
} from '../engine.js'

interface DummyContainer {
  readonly id: string
  readonly spec: ContainerSpec
  state: 'created' | 'running' | 'exited'
  readonly signals: string[]
  readonly ended: Promise<ContainerExit>
  end(exit: Partial<ContainerExit>): void
}

/**
 * A container engine that runs nothing: the double for tests of what stands above the interface. A test ends
 * containers by hand, and can say how they take a signal.
 */
export class DummyEngine implements ContainerEngine {
  readonly containersById = new Map<string, DummyContainer>()
  readonly volumesByName = new Map<string, VolumeSpec>()
  readonly networksByName = new Map<string, NetworkSpec>()
  readonly pulls: string[] = []
  readonly imagesByName = new Map<string, ImageInfo>([
    [
      'agirunner/debian-base:1',
      { id: 'sha256:base', repoDigests: [], platform: 'linux/amd64', env: [], volumes: [] },
    ],
  ])
  /** What a container does with a signal; by default it ends as a shell would. */
  onSignal: (container: DummyContainer, signal: 'SIGTERM' | 'SIGKILL') => void = (container, signal) =>
    container.end({ exitCode: signal === 'SIGTERM' ? 143 : 137 })
  onStart: (container: DummyContainer) => void = () => undefined

  async ping(): Promise<void> {}

  info(): Promise<EngineInfo> {
    return Promise.resolve({
      name: 'dummy',
      version: '0',
      apiVersion: '1.41',
      platform: 'linux/amd64',
      cgroupVersion: '2',
      cgroupDriver: 'none',
      storageDriver: 'none',
      cpus: 2,
      memoryBytes: 2 ** 33,
      facts: readEngineFacts({ MemoryLimit: true, CpuCfsQuota: true, PidsLimit: true }),
    })
  }

  image(reference: string): Promise<ImageInfo | null> {
    return Promise.resolve(this.imagesByName.get(reference) ?? null)
  }

  images(): Promise<ImageSummary[]> {
    return Promise.resolve([...this.imagesByName.entries()].map(([name, { id }]) => ({ id, names: [name] })))
  }

  askRegistry(): Promise<void> {
    return Promise.reject(new TaskFailure('image.pull_failed', 'the dummy has no registry'))
  }

  pull(reference: string): Promise<void> {
    this.pulls.push(reference)
    return Promise.reject(new TaskFailure('image.pull_failed', 'the dummy has no registry'))
  }

  createNetwork(network: NetworkSpec): Promise<boolean> {
    this.networksByName.set(network.name, network)
    return Promise.resolve(true)
  }

  networkInUse(): Promise<boolean> {
    return Promise.resolve(false)
  }

  removeNetwork(name: string): Promise<void> {
    this.networksByName.delete(name)
    return Promise.resolve()
  }

  writtenBytes(): Promise<number | null> {
    return Promise.resolve(null)
  }

  volumeBytes(): Promise<number> {
    return Promise.resolve(0)
  }

  createVolume(volume: VolumeSpec): Promise<void> {
    this.volumesByName.set(volume.name, volume)
    return Promise.resolve()
  }

  removeVolume(name: string): Promise<void> {
    this.volumesByName.delete(name)
    return Promise.resolve()
  }

  create(spec: ContainerSpec): Promise<string> {
    const taken = [...this.containersById.values()].some(container => container.spec.name === spec.name)
    if (taken)
      return Promise.reject(new TaskFailure('container.create_failed', `the name ${spec.name} is taken`))
    const id = `dummy-${this.containersById.size}-${spec.name}`
    this.containersById.set(id, newContainer(id, spec))
    return Promise.resolve(id)
  }

  start(id: string): Promise<void> {
    const container = this.#get(id)
    container.state = 'running'
    this.onStart(container)
    return Promise.resolve()
  }

  exit(id: string): Promise<ContainerExit> {
    return this.#get(id).ended
  }

  startedAt(): Promise<number | null> {
    return Promise.resolve(null)
  }

  wasOutOfMemory(id: string): Promise<boolean> {
    return this.#get(id).ended.then(({ oomKilled }) => oomKilled)
  }

  signalsTo(id: string): Promise<string[]> {
    return Promise.resolve(this.#get(id).signals.toReversed())
  }

  usage(): Promise<null> {
    return Promise.resolve(null)
  }

  kill(id: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const container = this.#get(id)
    container.signals.push(signal)
    this.onSignal(container, signal)
    return Promise.resolve()
  }

  rename(): Promise<void> {
    return Promise.resolve()
  }

  watchImages(): Promise<void> {
    return Promise.resolve()
  }

  setLimits(): Promise<void> {
    return Promise.resolve()
  }

  disconnect(): Promise<void> {
    return Promise.resolve()
  }

  remove(id: string): Promise<void> {
    this.containersById.get(id)?.end({ exitCode: 137 })
    this.containersById.delete(id)
    return Promise.resolve()
  }

  async attach(id: string): Promise<AsyncIterable<OutputRun>> {
    const { ended } = this.#get(id)
    return (async function* () {
      await ended
      yield* []
    })()
  }

  async putArchive(_id: string, _folder: string, archive: Readable): Promise<void> {
    for await (const _chunk of archive);
  }

  async *getArchive(): AsyncGenerator<Buffer> {
    yield* []
  }

  containers(label: string): Promise<ContainerSummary[]> {
    const [key = '', value] = label.split('=')
    const found = [...this.containersById.values()].filter(({ spec }) => spec.labels[key] === value)
    return Promise.resolve(
      found.map(({ id, spec, state }) => ({ id, name: spec.name, state, labels: spec.labels })),
    )
  }

  networks(label: string): Promise<{ name: string; labels: Readonly<Record<string, string>> }[]> {
    const [key = '', value] = label.split('=')
    return Promise.resolve([...this.networksByName.values()].filter(({ labels }) => labels[key] === value))
  }

  volumes(label: string): Promise<{ name: string; labels: Readonly<Record<string, string>> }[]> {
    const [key = '', value] = label.split('=')
    return Promise.resolve([...this.volumesByName.values()].filter(({ labels }) => labels[key] === value))
  }

  #get(id: string): DummyContainer {
    const container = this.containersById.get(id)
    if (!container) throw new TaskFailure('engine.restarted', `container ${id} is gone`)
    return container
  }
}

function newContainer(id: string, spec: ContainerSpec): DummyContainer {
  let resolve: (exit: ContainerExit) => void = () => undefined
  const container: DummyContainer = {
    id,
    spec,
    state: 'created',
    signals: [],
    ended: new Promise<ContainerExit>(done => {
      resolve = done
    }),
    end: exit => {
      container.state = 'exited'
      const now = new Date().toISOString()
      resolve({
        exitCode: 0,
        oomKilled: false,
        lost: false,
        error: '',
        startedAt: now,
        finishedAt: now,
        ...exit,
      })
    },
  }
  return container
}
