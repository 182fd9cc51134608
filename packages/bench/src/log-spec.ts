import type Docker from 'dockerode'
import { LIMITS } from './contender.js'
import { LABELS } from './left-over.js'

/** A container as the engine's own readers get it: the limits of all contenders, and a log driver or none. */
export function logSpec(image: string, script: string, log: Docker.HostConfig['LogConfig']) {
  return {
    Image: image,
    Labels: LABELS,
    Cmd: ['/bin/sh', '-c', script],
    NetworkDisabled: true,
    AttachStdout: true,
    AttachStderr: true,
    HostConfig: {
      Init: true,
      NetworkMode: 'none',
      ...(log && { LogConfig: log }),
      NanoCpus: LIMITS.cpu * 1e9,
      Memory: LIMITS.memoryBytes,
      MemorySwap: LIMITS.memoryBytes,
      PidsLimit: LIMITS.pids,
    },
  } satisfies Docker.ContainerCreateOptions
}
