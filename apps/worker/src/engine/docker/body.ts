import type Docker from 'dockerode'
import type { ContainerSpec, NetworkSpec } from '../engine.js'
import { SECURITY_OPTIONS } from './security-options.js'

/** Keys of API 1.41 that @types/dockerode does not know. */
const NOT_IN_TYPES = { CgroupnsMode: 'private' }

/**
 * The body of `POST /containers/create`. It is built from the spec alone, key by key: a task has no way to name a key
 * of the engine's. AutoRemove stays off, because the exit and the OOM state are read after the end.
 */
export function createBody(spec: ContainerSpec): Docker.ContainerCreateOptions {
  return {
    name: spec.name,
    Image: spec.image,
    Entrypoint: [],
    Cmd: [...spec.command],
    Env: [...spec.env],
    Labels: { ...spec.labels },
    User: spec.user,
    WorkingDir: '/',
    Hostname: 'task',
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    OpenStdin: false,
    Tty: false,
    NetworkDisabled: spec.network === 'none',
    // An image's own check would run as often as the image likes, past the gate.
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      ...NOT_IN_TYPES,
      Init: true,
      AutoRemove: false,
      RestartPolicy: { Name: 'no' },
      LogConfig: { Type: 'none', Config: {} },
      NetworkMode: spec.network,
      ...(spec.dns.length === 0 ? {} : { Dns: [...spec.dns] }),
      IpcMode: 'private',
      ReadonlyRootfs: spec.readOnlyRoot,
      CapDrop: ['ALL'],
      CapAdd: [...spec.capabilities],
      SecurityOpt: [...SECURITY_OPTIONS],
      ...limitsBody(spec),
      PidsLimit: spec.pids,
      ShmSize: spec.shmBytes,
      OomScoreAdj: 500,
      Ulimits: [
        { Name: 'nofile', Soft: 4096, Hard: 4096 },
        { Name: 'core', Soft: 0, Hard: 0 },
      ],
      Tmpfs: { ...spec.tmpfs },
      Mounts: spec.mounts.map(mount => ({
        Type: mount.type,
        Source: mount.source,
        Target: mount.target,
        ReadOnly: mount.readOnly,
        ...(mount.live ? { BindOptions: { Propagation: 'rslave' } } : {}),
        ...(mount.type === 'volume'
          ? { VolumeOptions: { NoCopy: true } as Docker.MountSettings['VolumeOptions'] }
          : {}),
      })) as Docker.MountSettings[],
      ...(spec.runtime === null ? {} : { Runtime: spec.runtime }),
      ...(spec.cgroupParent ? { CgroupParent: spec.cgroupParent } : {}),
    },
  }
}

/** The body of `POST /networks/create`. */
export function networkBody(network: NetworkSpec): Docker.NetworkCreateOptions {
  return {
    Name: network.name,
    Driver: 'bridge',
    CheckDuplicate: true,
    Internal: network.internal,
    EnableIPv6: false,
    Labels: { ...network.labels },
    IPAM: { Driver: 'default', Config: [{ Subnet: network.subnet, Gateway: network.gateway }] },
    Options: {
      'com.docker.network.bridge.name': network.bridge,
      'com.docker.network.bridge.enable_icc': 'false',
    },
  }
}

/** What a container may use, of what can be changed while it runs. No swap: memory is all that it gets. */
export function limitsBody({ cpus, memoryBytes }: Pick<ContainerSpec, 'cpus' | 'memoryBytes'>) {
  return { Memory: memoryBytes, MemorySwap: memoryBytes, NanoCpus: Math.round(cpus * 1e9) }
}
