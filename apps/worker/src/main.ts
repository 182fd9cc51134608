import { type RunningWorker, startWorker } from './compose.js'
import { ConfigError, readConfig } from './config.js'
import { createLog, messageOf } from './support/log.js'

/** Exit codes of the worker: 0 drained, 2 wrong configuration, 5 Redis or the engine is not usable, 130 told twice to stop. */
async function main(): Promise<void> {
  const config = readConfig()
  const log = createLog(config.logLevel, { pid: process.pid })
  for (const warning of config.warnings) log.warn(warning)
  const worker = await startWorker(config, log)
  onStop(worker)
  tell({ type: 'ready', id: worker.id, strategy: worker.strategy, http: worker.http() })
}

/** Whoever started this process over IPC hears when it is ready. */
function tell(message: Record<string, unknown>): void {
  process.send?.(message)
}

/** The first signal drains, the second gives the running tasks back at once, the third ends the process. */
function onStop(worker: RunningWorker): void {
  let asked = 0
  const stop = () => {
    asked += 1
    if (asked === 2) worker.hurry()
    if (asked === 3) process.exit(130)
    if (asked > 1) return
    worker
      .drain()
      .then(() => process.exit(0))
      .catch(() => process.exit(1))
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  // Whoever started it is gone: nobody would stop it otherwise.
  if (process.send) process.on('disconnect', stop)
}

main().catch((error: unknown) => {
  process.stderr.write(`error: the worker can't start; ${messageOf(error)}\n`)
  process.exit(error instanceof ConfigError ? 2 : 5)
})
