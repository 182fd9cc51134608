#!/usr/bin/env node
// `npm test [-- jest's arguments]`: everything that the tests need, the tests, and everything put back.
// The last line is always `N passed, N failed`.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { messageOf } from '../src/errors.js'
import { ensureBrowser, ensurePromtool, ensureRedis, ensureS3Server, setUp } from '../src/index.js'
import { makeTestData, pathWithRedis, readTotals, removeTestData, runJest } from '../src/test-run.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const { env } = process
/** @param {string} line */
const log = line => console.log(line)

const stopping = new AbortController()
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.on(signal, () => {
    if (!stopping.signal.aborted) log(`setup: test: ${signal}; stopping what was started`)
    stopping.abort(signal)
  })
}

/** @typedef {() => Promise<unknown>} Undo */

/**
 * @param {Undo[]} undo is filled as things are started
 * @param {string} dataDir of the tests alone; engine, programs and image are the machine's
 * @returns {Promise<number>} the exit code
 */
async function runTests(undo, dataDir) {
  const { signal } = stopping
  const shared = await setUp({ root, env, log, needs: ['packages', 'build', 'engine', 'image'], signal })
  undo.push(shared.stop)
  const redis = await ensureRedis({ dataDir, env, log })
  undo.push(redis.stop)
  // Without one of them only the tests that need it fail, and they say why.
  await ensureS3Server({ dataDir, env, log }).catch(report)
  await ensurePromtool({ dataDir, env, log }).catch(report)
  const browser = await ensureBrowser({ dataDir, env, log }).catch(report)
  if (signal.aborted) return 1
  const testEnv = {
    ...env,
    PATH: await pathWithRedis(dataDir, env),
    REDIS_URL: redis.url,
    AGIRUNNER_DATA: dataDir,
    AGIRUNNER_TEST_IMAGE: shared.image ?? '',
    AGIRUNNER_TEST_BROWSER: browser || '',
    ...(isDefault(shared.dockerHost) ? {} : { DOCKER_HOST: shared.dockerHost ?? '' }),
  }
  const args = process.argv.slice(2)
  return runJest({ root, env: testEnv, args, signal, log, totals: totalsFile(dataDir) })
}

/** @param {string | null} host */
function isDefault(host) {
  return !env.DOCKER_HOST && host === 'unix:///var/run/docker.sock'
}

/** @param {string} dataDir */
function totalsFile(dataDir) {
  return join(dataDir, 'totals.json')
}

/** @param {unknown} error */
function report(error) {
  console.error(`error: ${messageOf(error)}`)
}

/** @returns {Promise<{code: number, passed: number, failed: number}>} */
async function main() {
  /** @type {Undo[]} */
  const undo = []
  const dataDir = makeTestData()
  let code = 1
  try {
    code = await runTests(undo, dataDir)
  } catch (error) {
    report(error)
  }
  if (stopping.signal.aborted) code = stopping.signal.reason === 'SIGINT' ? 130 : 143
  const totals = readTotals(totalsFile(dataDir), code)
  for (const step of undo.reverse()) {
    await step().catch(error => {
      report(error)
      code ||= 1
    })
  }
  await removeTestData(dataDir, { env, log })
  return { code, ...totals }
}

const { code, passed, failed } = await main()
process.exitCode = code
log(`${passed} passed, ${failed} failed`)
