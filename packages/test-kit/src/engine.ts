import Docker from 'dockerode'

/**
 * Connects to a container engine.
 *
 * @param dockerHost as DOCKER_HOST would name it, `unix:///…` or `tcp://host:port`; by default what the environment
 *   says, else the default socket
 */
export function connectEngine(dockerHost?: string): Docker {
  if (dockerHost === undefined) return new Docker()
  if (dockerHost.startsWith('unix://')) return new Docker({ socketPath: dockerHost.slice('unix://'.length) })
  const { hostname, port, protocol } = new URL(dockerHost)
  return new Docker({
    host: hostname,
    port: port || 2375,
    protocol: protocol === 'https:' ? 'https' : 'http',
  })
}
