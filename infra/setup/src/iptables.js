import { mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { pathWithSystemFolders, which } from './environment.js'
import { run } from './processes.js'

/** @typedef {import('./environment.js').Env} Env */

// What an engine's bridge needs of the kernel: a chain of the nat table that matches local addresses and
// masquerades.
const probeChain = 'AGIRUNNER-PROBE'
const probes = [
  ['-N', probeChain],
  ['-A', probeChain, '-m', 'addrtype', '--dst-type', 'LOCAL', '-j', 'RETURN'],
  ['-A', probeChain, '-s', '192.0.2.0/24', '-j', 'MASQUERADE'],
]
const programs = [
  'iptables',
  'iptables-save',
  'iptables-restore',
  'ip6tables',
  'ip6tables-save',
  'ip6tables-restore',
]

/**
 * Finds an iptables that this kernel really serves. The one the system points to comes first; another is put
 * before it for the engine alone, by a folder of links, so that the system's own choice is never changed.
 * @param {Env} env
 * @param {string} folder for the links
 * @returns {Promise<{path: string, variant: string} | null>} `path`: a PATH for the engine; null when none
 *   works
 */
export async function workingIptables(env, folder) {
  const path = pathWithSystemFolders(env)
  if (await works('iptables', { ...env, PATH: path })) return { path, variant: await variantOf(env, path) }
  for (const variant of ['nft', 'legacy']) {
    if (!(await works(`iptables-${variant}`, { ...env, PATH: path }))) continue
    linkVariant(folder, variant, env)
    return { path: [folder, path].join(delimiter), variant }
  }
  return null
}

/**
 * @param {string} command
 * @param {Env} env
 * @returns {Promise<boolean>}
 */
async function works(command, env) {
  if (!which(command, env)) return false
  /** @param {readonly string[]} rule */
  const iptables = rule => run(command, ['-w', '5', '-t', 'nat', ...rule], { env, timeoutMs: 10_000 })
  try {
    for (const probe of probes) {
      if ((await iptables(probe)).code !== 0) return false
    }
    return true
  } finally {
    await iptables(['-F', probeChain])
    await iptables(['-X', probeChain])
  }
}

/**
 * @param {Env} env
 * @param {string} path
 */
async function variantOf(env, path) {
  const { output } = await run('iptables', ['--version'], { env: { ...env, PATH: path } })
  return output.includes('nf_tables') ? 'nft' : 'legacy'
}

/**
 * @param {string} folder
 * @param {string} variant
 * @param {Env} env
 */
function linkVariant(folder, variant, env) {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  for (const program of programs) {
    const [name, ...rest] = program.split('-')
    const target = which([name, variant, ...rest].join('-'), env, { system: true })
    if (target) symlinkSync(target, join(folder, program))
  }
}
