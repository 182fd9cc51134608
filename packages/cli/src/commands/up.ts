import type { Command } from '../command.js'
import { EXIT } from '../errors.js'
import { wholeNumber } from '../settings.js'
import { Runtime } from '../up/runtime.js'
import { StopRequests } from '../up/stop-requests.js'
import { claimUp } from '../up/up-file.js'

export const up: Command = {
  usage: 'up [--concurrency N] [--port P]',
  summary: 'starts everything on this machine: Redis and an engine where none is there, a worker, the board',
  details:
    'Prints a line that starts with "ready" once tasks can be run. Ctrl-C or SIGTERM lets running tasks end for the\n' +
    'drain time and stops what it started; a second one gives the running tasks back to the queue at once.',
  options: {
    concurrency: {
      type: 'string',
      value: 'N',
      help: 'how many tasks run at once (default AGIRUNNER_CONCURRENCY, else 4)',
    },
    port: {
      type: 'string',
      value: 'P',
      help: "the board's port (default AGIRUNNER_BOARD_PORT, else a free one)",
    },
  },
  takes: { min: 0, max: 0, name: 'nothing' },
  async run({ settings, option, io }) {
    const concurrency = option('concurrency') ?? settings.env.AGIRUNNER_CONCURRENCY
    const port = option('port') ?? settings.env.AGIRUNNER_BOARD_PORT
    if (concurrency !== undefined) wholeNumber(concurrency, '--concurrency', 1, 1024)
    if (port !== undefined) wholeNumber(port, '--port', 0, 65_535)
    const release = claimUp(settings.dataDir)
    const runtime = new Runtime({
      settings,
      concurrency: concurrency ?? null,
      port: port ?? '0',
      // A line that nobody reads must not keep the runtime from running.
      print: line => void io.out.line(line),
    })
    const stop = new StopRequests(count => runtime.hurry(count))
    try {
      await runtime.start(stop.signal)
      await stop.requested
      return EXIT.ok
    } catch (error) {
      if (stop.signal.aborted) return EXIT.interrupted
      throw error
    } finally {
      await runtime.stop()
      stop.close()
      release()
    }
  },
}
