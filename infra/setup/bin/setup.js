#!/usr/bin/env node
// `npm run setup [-- --stop]`: makes this machine ready and leaves everything running, or stops what that
// started.
import { fileURLToPath } from 'node:url'
import { messageOf } from '../src/errors.js'
import { setUp, stopAll } from '../src/index.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))
/** @param {string} line */
const log = line => console.log(line)

/** @param {string | null} url */
const withoutPassword = url => (url ?? '').replace(/\/\/.*@/, '//')

async function start() {
  const { redisUrl, dockerHost, image, dataDir } = await setUp({ root, env: process.env, log, keep: true })
  log(
    `setup: ready: Redis ${withoutPassword(redisUrl)}, engine ${dockerHost}, image ${image}, data ${dataDir}`,
  )
  if (!process.env.REDIS_URL)
    log(`setup: the address of Redis with its password is in ${dataDir}/run/redis.json`)
}

async function stop() {
  const stopped = await stopAll({ env: process.env, log })
  if (!stopped)
    log('setup: nothing to stop; no set-up with this data folder started anything that still runs')
}

const args = process.argv.slice(2)
try {
  if (args.length > 1 || (args[0] && args[0] !== '--stop')) {
    throw new Error(`${args.join(' ')} is not understood; only --stop is; run \`npm run setup -- --stop\``)
  }
  await (args[0] ? stop() : start())
} catch (error) {
  console.error(`error: ${messageOf(error)}`)
  process.exitCode = 1
}
