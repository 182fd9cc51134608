#!/usr/bin/env node
// `npm run demo [-- --repo URL --ref R --script S]`: sets everything up, runs the main job on a real repository, shows
// what happens, and leaves nothing of its own running. Nothing but Node may be needed until the set-up is done.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readJson } from '../src/files.js'
import { dataDirFrom, setUp } from '../src/index.js'
import { isAlive } from '../src/processes.js'
import { readArguments, usage } from './demo/arguments.js'
import { run, startUp } from './demo/commands.js'
import { serveCheckout } from './demo/repository.js'
import * as show from './demo/show.js'
import { taskOf } from './demo/task.js'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** @typedef {() => Promise<unknown> | void} Undo */

const stopping = new AbortController()
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.on(signal, () => {
    // The second time: leave. Everything that was started notices, and ends by itself.
    if (stopping.signal.aborted) process.exit(130)
    show.note(`${signal}: stopping what was started`)
    stopping.abort(signal)
  })
}

/**
 * @param {import('./demo/arguments.js').DemoArguments} args
 * @param {Undo[]} undo is filled as things are started
 * @returns {Promise<number>} the exit code
 */
async function demo(args, undo) {
  const { signal } = stopping
  const queue = `demo-${process.pid}`
  const taskId = `demo-${Date.now().toString(36)}`
  const dataDir = ownDataDir()
  const env = { ...process.env, AGIRUNNER_DATA: dataDir }

  show.chapter('Set-up', 'what is missing is installed; the second time takes seconds')
  const environment = await setUp({ root, env, log: show.quiet, signal })
  undo.push(environment.stop)
  const kit = await import(new URL('../../../packages/test-kit/dist/index.js', import.meta.url).href)
  undo.push(() => kit.removeQueue(environment.redisUrl, queue))

  const folder = mkdtempSync(join(tmpdir(), 'agirunner-demo-'))
  undo.push(() => rmSync(folder, { recursive: true, force: true }))
  const served = args.repo === null ? await serveCheckout({ root, folder, kit }) : null
  if (served) undo.push(served.close)
  // The task's own artifacts: whoever wants to keep such things runs `agirunner up` and not the demo.
  undo.push(() => rmSync(join(dataDir, 'artifacts', 'demo'), { recursive: true, force: true }))

  show.chapter('agirunner up', 'Redis, the engine, a worker and the board')
  const childEnv = {
    ...env,
    AGIRUNNER_QUEUE: queue,
    // The checkout is served on this machine, which a worker refuses otherwise.
    ...(served ? { AGIRUNNER_GIT_ALLOW_PRIVATE: '1' } : {}),
    ...(environment.redisUrl ? { REDIS_URL: environment.redisUrl } : {}),
    ...(environment.dockerHost ? { DOCKER_HOST: environment.dockerHost } : {}),
  }
  const up = await startUp({ root, env: childEnv, signal })
  undo.push(up.stop)
  show.ready(up.ready)

  const task = taskOf({ taskId, url: served?.url ?? args.repo ?? '', ref: args.ref, script: args.script })
  const file = join(folder, 'task.json')
  writeFileSync(file, `${JSON.stringify(task, null, 2)}\n`)
  show.chapter('agirunner run task.json', `task ${taskId} on ${served ? 'this checkout' : args.repo}`)
  const agirunner = (/** @type {string[]} */ ...rest) => run({ root, env: childEnv, signal, args: rest })
  const { code } = await agirunner('run', file)
  if (signal.aborted) return 130

  const { output } = await run({
    root,
    env: childEnv,
    signal,
    args: ['result', taskId, '--json'],
    capture: true,
  })
  if (output.trim() === '') return code || 1
  show.result(JSON.parse(output))
  const patch = await run({ root, env: childEnv, signal, args: ['patch', taskId], capture: true })
  if (patch.output !== '') show.patch(taskId, patch.output)
  return code
}

/**
 * The usual data folder, so that its caches serve the second run; a separate one below it while somebody's own
 * `agirunner up` uses that.
 * @returns {string}
 */
function ownDataDir() {
  const dataDir = dataDirFrom(process.env)
  const owner = /** @type {{pid?: unknown, startTime?: unknown} | null} */ (
    readJson(join(dataDir, 'up.lock'))
  )
  if (typeof owner?.pid !== 'number' || typeof owner.startTime !== 'string') return dataDir
  return isAlive({ pid: owner.pid, startTime: owner.startTime }) ? join(dataDir, 'demo') : dataDir
}

/** @param {Undo[]} undo @returns {Promise<boolean>} whether all of it went well */
async function undoAll(undo) {
  let fine = true
  for (let step = undo.pop(); step; step = undo.pop()) {
    try {
      await step()
    } catch (error) {
      fine = false
      show.error(error)
    }
  }
  return fine
}

/** @returns {Promise<number>} */
async function main() {
  const args = readArguments(process.argv.slice(2))
  if (args === null) {
    show.plain(usage)
    return 0
  }
  if (!existsSync(join(root, 'pnpm-lock.yaml')))
    throw new Error(`${root} is no checkout; pnpm-lock.yaml is missing; clone it again`)
  const started = performance.now()
  /** @type {Undo[]} */
  const undo = []
  let code
  try {
    code = await demo(args, undo)
  } catch (error) {
    if (!stopping.signal.aborted) show.error(error)
    code = stopping.signal.aborted ? 130 : 5
  }
  show.chapter('Clean-up', 'everything that the demo started is stopped')
  if (!(await undoAll(undo)) && code === 0) code = 5
  show.end(code, performance.now() - started)
  return code
}

try {
  process.exitCode = await main()
} catch (error) {
  show.error(error)
  process.exitCode = error instanceof Error && error.name === 'UsageError' ? 2 : 5
}
