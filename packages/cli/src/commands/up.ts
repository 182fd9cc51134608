import type { Call, Command } from '../command.js'
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
  async run(call) {
    const { settings, io } = call
    const concurrency = numberFrom(call, 'concurrency', 'AGIRUNNER_CONCURRENCY', 1, 1024)
    const port = numberFrom(call, 'port', 'AGIRUNNER_BOARD_PORT', 0, 65_535)
    const release = claimUp(settings.dataDir)
    const runtime = new Runtime({
      settings,
      concurrency,
      port: port ?? 0,
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

/** A number from an option, else from the environment, else null. @throws CliError */
function numberFrom(
  { option, settings }: Call,
  flag: string,
  name: string,
  from: number,
  to: number,
): number | null {
  const given = option(flag)
  const value = given ?? settings.env[name]
  return value === undefined ? null : wholeNumber(value, given === undefined ? name : `--${flag}`, from, to)
}
