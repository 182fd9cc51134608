import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ensurePackageLists, whyNoInstall } from './apt.js'
import { which } from './environment.js'
import { SetupError } from './errors.js'
import { areaLog } from './log.js'
import { run } from './processes.js'

/** @typedef {import('./environment.js').Env} Env */

/**
 * Brings `promtool`, which tests check metrics, rules and settings of Prometheus with. It is taken out of Debian's package
 * `prometheus`, which is not installed: a server that scrapes this machine from now on is nothing that tests may leave.
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log}} options it is put into `bin` of the data folder
 * @returns {Promise<void>}
 * @throws {SetupError} install.forbidden, install.failed
 */
export async function ensurePromtool({ dataDir, env, log }) {
  if (which('promtool', env)) return
  const forbidden = whyNoInstall(env)
  if (forbidden) throw missing('install.forbidden', forbidden)
  const say = areaLog(log, 'promtool')
  await ensurePackageLists({ dataDir, env, say })
  const folder = mkdtempSync(join(dataDir, 'prometheus-'))
  try {
    say('taking it out of the package prometheus')
    await must('apt-get', ['download', 'prometheus'], folder, env)
    const [file = ''] = readdirSync(folder)
    await must('dpkg-deb', ['--extract', file, 'files'], folder, env)
    mkdirSync(join(dataDir, 'bin'), { recursive: true })
    renameSync(join(folder, 'files/usr/bin/promtool'), join(dataDir, 'bin/promtool'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * @param {string} program
 * @param {readonly string[]} args
 * @param {string} cwd
 * @param {Env} env
 */
async function must(program, args, cwd, env) {
  const { code, output } = await run(program, args, { env: { ...env, LC_ALL: 'C' }, cwd })
  if (code !== 0) throw missing('install.failed', `${program} ended with ${code}`, output)
}

/**
 * @param {'install.forbidden' | 'install.failed'} code
 * @param {string} why
 * @param {string} [details]
 */
function missing(code, why, details) {
  return new SetupError(code, {
    what: "can't get promtool",
    why,
    fix: 'put one on the PATH: it is part of Prometheus, and of the package `prometheus`',
    ...(details === undefined ? {} : { details }),
  })
}
