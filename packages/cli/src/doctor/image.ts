import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Failure } from '@agirunner/contracts'
import type { Call } from '../command.js'
import { openEngine } from '../docker.js'
import { bad, type Finding, messageOf, ok, warn } from './finding.js'

/** What the worker's program says of an image; see its `verify-image.ts`. */
interface Report {
  readonly failure?: Failure
  readonly reference: string
  readonly digest: string
  /** The engine's platform, such as `linux/amd64`. */
  readonly machine: string
  readonly facts: {
    readonly platform: string
    readonly missing: readonly string[]
    readonly problem: string | null
    readonly distro: string | null
    readonly packageManager: string | null
    readonly libc: string | null
    readonly user: string | null
    readonly certificates: boolean
    readonly runtimes: Readonly<Record<string, string>>
    readonly volumes: readonly string[]
    readonly complete: boolean
  }
}

/** Looks into one image by running a container of it, as the worker does before a bootstrap. */
export async function checkImage({ settings, option }: Call): Promise<Finding[]> {
  const image = option('image') ?? ''
  try {
    const { host } = await openEngine(settings)
    const env = { ...settings.env, DOCKER_HOST: host, AGIRUNNER_DATA: settings.dataDir }
    const report = await verify(image, env)
    if (report.failure)
      return [bad('image', `${report.failure.code}: ${report.failure.message}`, report.failure.hint)]
    return findingsOf(report)
  } catch (error) {
    return [bad('image', messageOf(error), 'see `agirunner doctor` for the engine and the data folder')]
  }
}

async function verify(image: string, env: NodeJS.ProcessEnv): Promise<Report> {
  const program = fileURLToPath(new URL('./verify-image.js', import.meta.resolve('@agirunner/worker')))
  const { stdout } = await promisify(execFile)(process.execPath, [program, image], { env })
  return JSON.parse(stdout) as Report
}

function findingsOf({ reference, digest, machine, facts }: Report): Finding[] {
  const { missing, problem, platform, distro, libc, packageManager, user, volumes, complete } = facts
  if (problem !== null) {
    const why = platform === machine ? '' : `; it is made for ${platform}, and this machine is ${machine}`
    return [
      bad('image', `${reference} can't run tasks: ${problem}${why}`, 'use an image with /bin/sh and env'),
    ]
  }
  const about = [distro ?? 'an unknown distribution', libc ?? 'an unknown libc', platform].join(', ')
  const versions = Object.entries(facts.runtimes).map(([name, version]) => `${name}: ${version || 'there'}`)
  const has = (check: string, found: string | null) => ok(check, found ?? 'none that is known')
  return [
    ok('image', `${reference}, ${digest}: ${about}`),
    missing.length === 0
      ? ok('bootstrap', 'has everything that a bootstrap may count on')
      : bad('bootstrap', `lacks ${missing.join(', ')}`, 'install them in the image, or use no bootstrap'),
    has('packages', packageManager),
    has('user', user),
    facts.certificates
      ? ok('certificates', 'there')
      : warn(
          'certificates',
          'none: programs in it will not trust any https address',
          'install ca-certificates',
        ),
    has('runtimes', versions.length === 0 ? null : versions.join('; ')),
    ...(volumes.length > 0 ? [ok('volumes', `in the task's memory: ${volumes.join(', ')}`)] : []),
    ...(complete ? [] : [warn('image', 'the time was up before everything was asked', 'try again')]),
  ]
}
