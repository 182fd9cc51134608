#!/usr/bin/env node
// `pnpm check [--no-tests]`: every check of the repository, one line each; the output of one that fails follows its
// line. All of them run, whatever the ones before said.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { missesOfPlanted } from './check/planted.js'
import { problemsOfRepository } from './check/repository.js'

const root = fileURLToPath(new URL('..', import.meta.url))

/**
 * @typedef {object} Check
 * @property {string} name
 * @property {() => Promise<string>} run gives what is wrong, as text; empty when all is well
 */

/** @type {Check[]} */
const checks = [
  { name: 'format and lint', run: tool('biome', 'ci', '--colors=off', '.') },
  // Before the type-aware linter and the boundaries: both read the declarations that it writes.
  { name: 'types', run: tool('tsc', '-b') },
  { name: 'type-aware lint', run: tool('oxlint', '--type-aware', '--deny-warnings') },
  {
    name: 'boundaries',
    run: tool('depcruise', '--output-type', 'err-long', 'apps', 'packages', 'infra', 'test'),
  },
  { name: 'unused code', run: tool('knip', '--no-progress') },
  { name: 'repository rules', run: async () => (await problemsOfRepository(root)).join('\n') },
  { name: 'planted violations', run: async () => (await missesOfPlanted(root)).join('\n') },
]

/**
 * A program of node_modules as a check: what it writes counts only when its status is not 0.
 * @param {string} name
 * @param {...string} args
 * @returns {Check['run']}
 */
function tool(name, ...args) {
  return async () => {
    const child = spawn(`node_modules/.bin/${name}`, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (output += chunk))
    const [status] = await once(child, 'close')
    return status === 0 ? '' : output.trim() || `${name} ended with ${status}`
  }
}

/**
 * @param {Check} check
 * @returns {Promise<boolean>} whether all is well
 */
async function passes({ name, run }) {
  const start = performance.now()
  const problems = await run().catch(error => String(error.stack))
  report(name, problems === '', start)
  if (problems !== '') console.log(problems.replace(/^/gm, '      '))
  return problems === ''
}

/**
 * @param {string} name
 * @param {boolean} ok
 * @param {number} start
 */
function report(name, ok, start) {
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  console.log(`${ok ? 'ok ' : 'BAD'}  ${name.padEnd(20)} ${seconds.padStart(6)} s`)
}

/** The tests say themselves what they do, as they do it. */
async function testsPass() {
  const start = performance.now()
  const child = spawn(process.execPath, ['infra/setup/bin/test.js'], { cwd: root, stdio: 'inherit' })
  const [status] = await once(child, 'close')
  report('tests', status === 0, start)
  return status === 0
}

const results = []
for (const check of checks) results.push(await passes(check))
if (!process.argv.includes('--no-tests')) results.push(await testsPass())
const failed = results.filter(ok => !ok).length
console.log(
  failed === 0 ? `all ${results.length} checks are ok` : `${failed} of ${results.length} checks failed`,
)
process.exitCode = failed === 0 ? 0 : 1
