import type { ContainerSpec } from '../engine/engine.js'

/** What is alike for the containers that the worker makes for itself: no rights, no network, next to no resources. */
export const HELPER = {
  env: [],
  capabilities: [],
  tmpfs: {},
  cpus: 1,
  memoryBytes: 64 * 2 ** 20,
  pids: 16,
  shmBytes: 2 ** 20,
  network: 'none',
  dns: [],
  runtime: null,
} as const satisfies Partial<ContainerSpec>
