import { findEngine } from '@agirunner/setup'
import Docker from 'dockerode'
import { CliError, EXIT } from './errors.js'
import { type Env, engineEnvOf, type Settings } from './settings.js'

/** An engine that answers, and where. */
export interface FoundEngine {
  readonly docker: Docker
  readonly host: string
}

/** @throws CliError when none answers, SetupError when DOCKER_HOST names one that doesn't */
export async function openEngine(settings: Settings): Promise<FoundEngine> {
  const env = engineEnvOf(settings)
  const { found, tried } = await findEngine(env)
  if (found) return { docker: dockerAt(found, env), host: found }
  const looked = tried.map(({ host, why }) => `${host}: ${why}`).join(', ')
  const why = looked === '' ? 'DOCKER_HOST is not set and there is no socket at the usual places' : looked
  throw new CliError(
    `no container engine; ${why}; start Docker or Podman, or run \`agirunner up\``,
    EXIT.infrastructure,
  )
}

function dockerAt(host: string, env: Env): Docker {
  // With TLS the client reads the address and the certificates from DOCKER_HOST and DOCKER_CERT_PATH itself.
  if (env.DOCKER_TLS_VERIFY) return new Docker()
  if (host.startsWith('unix://')) return new Docker({ socketPath: host.slice('unix://'.length) })
  const url = new URL(host.replace(/^tcp:/, 'http:'))
  const protocol = url.protocol === 'https:' ? 'https' : 'http'
  return new Docker({ protocol, host: url.hostname, port: Number(url.port || 2375) })
}
