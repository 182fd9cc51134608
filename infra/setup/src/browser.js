import { installPackages } from './apt.js'
import { which } from './environment.js'
import { areaLog } from './log.js'

/** @typedef {import('./environment.js').Env} Env */

/** In the order of preference; what is there is used. */
const programs = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']
/** Without a font there are no letters on a page. */
const packages = ['chromium', 'fonts-dejavu-core']

/**
 * Brings the browser that the board's tests drive. Nothing is started.
 * @param {{dataDir: string, env: Env, log: import('./log.js').Log}} options
 * @returns {Promise<string>} its path
 * @throws {import('./errors.js').SetupError} install.forbidden, install.failed
 */
export async function ensureBrowser({ dataDir, env, log }) {
  const found = findBrowser(env)
  if (found !== null) return found
  await installPackages({ packages, dataDir, env, say: areaLog(log, 'browser') })
  return findBrowser(env) ?? '/usr/bin/chromium'
}

/** @param {Env} env */
function findBrowser(env) {
  for (const program of programs) {
    const path = which(program, env)
    if (path) return path
  }
  return null
}
