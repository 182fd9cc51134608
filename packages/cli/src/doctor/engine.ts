import { formatSize } from '@agirunner/contracts'
import { BASE_IMAGE } from '@agirunner/setup'
import type Docker from 'dockerode'
import type { Call } from '../command.js'
import { openEngine } from '../docker.js'
import { bad, type Finding, messageOf, ok, warn } from './finding.js'

/** The parts of `GET /info` that are read here. */
interface EngineFacts {
  readonly Name?: string
  readonly ServerVersion?: string
  readonly NCPU?: number
  readonly MemTotal?: number
  readonly Driver?: string
  readonly CgroupVersion?: string
  readonly CgroupDriver?: string
  readonly InitBinary?: string
  readonly MemoryLimit?: boolean
  readonly SwapLimit?: boolean
  readonly PidsLimit?: boolean
  readonly CpuCfsQuota?: boolean
  readonly SecurityOptions?: readonly string[] | null
  readonly OSType?: string
  readonly Architecture?: string
}

/** Whether an engine answers, and what it can enforce. */
export async function checkEngine({ settings }: Call): Promise<Finding[]> {
  try {
    const { docker, host } = await openEngine(settings)
    const facts = (await docker.info()) as EngineFacts
    return [
      engineOf(facts, host),
      initOf(facts),
      ...limitsOf(facts),
      isolationOf(facts),
      await imageOf(docker),
    ]
  } catch (error) {
    return [bad('engine', messageOf(error), 'start Docker or Podman, or run `agirunner up`')]
  }
}

function engineOf(
  { ServerVersion, NCPU, MemTotal, Driver, Architecture, OSType }: EngineFacts,
  host: string,
): Finding {
  const machine = `${OSType}/${Architecture}, ${NCPU} cores, ${formatSize(MemTotal ?? 0)} memory, ${Driver} storage`
  const found = `${ServerVersion} at ${host}: ${machine}`
  if (OSType && OSType !== 'linux') return bad('engine', found, 'use an engine that runs Linux containers')
  return ok('engine', found)
}

function initOf({ InitBinary }: EngineFacts): Finding {
  if (InitBinary) return ok('init', `${InitBinary} forwards signals and reaps processes`)
  return warn(
    'init',
    'the engine has no small init: stopping a task takes seconds',
    'install docker-init (tini)',
  )
}

function limitsOf(facts: EngineFacts): Finding[] {
  const cgroup = `cgroup v${facts.CgroupVersion ?? '1'}`
  const limit = (check: string, enforced: boolean | undefined, what: string) => {
    if (enforced) return ok(check, `${what} can be limited (${cgroup})`)
    const fix = `let the kernel and the engine use the ${check} controller of ${cgroup}`
    return bad(check, `${what} can't be limited (${cgroup})`, fix)
  }
  return [
    limit('memory', facts.MemoryLimit, 'memory'),
    limit('pids', facts.PidsLimit, 'the number of processes'),
    limit('cpu', facts.CpuCfsQuota, 'processor time'),
  ]
}

function isolationOf({ SecurityOptions }: EngineFacts): Finding {
  const options = (SecurityOptions ?? []).map(option => option.replace(/^name=/, '').split(',')[0] ?? '')
  const found = options.length > 0 ? options.join(', ') : 'none'
  if (options.includes('rootless')) return ok('isolation', `rootless engine; ${found}`)
  if (options.includes('seccomp')) return ok('isolation', found)
  return warn('isolation', `${found}: the engine filters no system calls`, 'use an engine built with seccomp')
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
