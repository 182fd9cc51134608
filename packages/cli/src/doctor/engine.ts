import {
  type Capability,
  engineCapabilities,
  formatSize,
  missingVitals,
  readEngineFacts,
} from '@agirunner/contracts'
import { BASE_IMAGE } from '@agirunner/setup'
import type Docker from 'dockerode'
import type { Call } from '../command.js'
import { openEngine } from '../docker.js'
import { bad, type Finding, messageOf, ok, warn } from './finding.js'

/** The parts of `GET /info` that are read here, beside what `readEngineFacts` reads. */
interface EngineInfo {
  readonly ServerVersion?: string
  readonly NCPU?: number
  readonly MemTotal?: number
  readonly Driver?: string
  readonly OSType?: string
  readonly Architecture?: string
}

/** Whether an engine answers, and what it can enforce. */
export async function checkEngine({ settings }: Call): Promise<Finding[]> {
  try {
    const { docker, host } = await openEngine(settings)
    const info = (await docker.info()) as EngineInfo
    const capabilities = engineCapabilities(readEngineFacts(info))
    return [engineOf(info, host), ...capabilities.map(findingOf), await imageOf(docker)]
  } catch (error) {
    return [bad('engine', messageOf(error), 'start Docker or Podman, or run `agirunner up`')]
  }
}

function engineOf(
  { ServerVersion, NCPU, MemTotal, Driver, Architecture, OSType }: EngineInfo,
  host: string,
): Finding {
  const machine = `${OSType}/${Architecture}, ${NCPU} cores, ${formatSize(MemTotal ?? 0)} memory, ${Driver} storage`
  const found = `${ServerVersion} at ${host}: ${machine}`
  if (OSType && OSType !== 'linux') return bad('engine', found, 'use an engine that runs Linux containers')
  return ok('engine', found)
}

/** What a worker would find too, before it tries a container. */
function findingOf(capability: Capability): Finding {
  const { name, state, detail, fix } = capability
  if (state === 'enforced') return ok(name, detail)
  if (missingVitals([capability]).length > 0) return bad(name, detail, fix ?? 'use another engine')
  return warn(name, detail, fix ?? 'nothing, if that is enough')
}

async function imageOf(docker: Docker): Promise<Finding> {
  try {
    const { Id, Size } = await docker.getImage(BASE_IMAGE).inspect()
    return ok('image', `${BASE_IMAGE}, ${formatSize(Size)}, ${Id.slice(7, 19)}`)
  } catch (error) {
    const missing = (error as { statusCode?: number }).statusCode === 404
    const found = missing ? `${BASE_IMAGE} is not on the engine's machine` : messageOf(error)
    return bad('image', found, 'run `npm run setup` in the checkout, or `agirunner up`')
  }
}
