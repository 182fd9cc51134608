/** Whether an engine, by its DOCKER_HOST, is on this machine for sure; null stands for the default socket. */
export function isLocalEngine(host: string | null): boolean {
  return host === null || host.startsWith('unix://')
}
