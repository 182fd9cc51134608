import type { TaskResult } from '@agirunner/contracts'
import type { Producer, SendableTask } from '@agirunner/producer'
import { paintFor } from '../colours.js'
import type { Call, Command } from '../command.js'
import { readSpan } from '../duration.js'
import { EXIT, exitCodeOf } from '../errors.js'
import { showDuration } from '../output.js'
import { readTask } from '../read-tasks.js'
import { barOf } from '../run-progress.js'
import { RunScreen } from '../run-screen.js'
import { EventTeller, failureOf, summaryOf } from '../run-text.js'

export const run: Command = {
  usage: 'run FILE|- [--keep-on-failure TTL] [--json]',
  summary: 'enqueues a task, follows its log and waits for its result',
  details:
    'The task\'s stdout goes to stdout and its stderr to stderr, unaltered; lines that start with "agirunner: " are the\n' +
    "command's own. Ctrl-C asks for the task to be canceled and waits for its result; a second one leaves at once.",
  options: {
    'keep-on-failure': {
      type: 'string',
      value: 'TTL',
      help: 'keep the container for so long if the task fails, such as 30m: `agirunner exec` looks into it',
    },
    json: { type: 'boolean', help: 'both streams to stderr, the result alone to stdout' },
  },
  takes: { min: 1, max: 1, name: 'a FILE, or - for stdin' },
  async run(call) {
    const { io, flag, option, positionals, producer } = call
    const span = option('keep-on-failure')
    const keepMs = span === undefined ? 0 : readSpan(span, '--keep-on-failure')
    const task = (await readTask(positionals[0] ?? '', io)) as SendableTask
    const screen = new RunScreen(io, { logToStderr: flag('json') })
    const { taskId, status } = await producer().enqueue(task)
    const kept = keepMs > 0 && (await keepOnFailure(producer(), taskId, keepMs))
    const stopListening = cancelOnSignal(producer(), taskId, screen)
    try {
      if (status === 'same') await screen.say(`${taskId} is known already; this follows it`)
      await warnWithoutWorkers(call, taskId, screen)
      const result = await follow(producer(), taskId, screen)
      await report(result, call, screen)
      if (kept && isKept(result)) {
        await screen.say(`the container is kept for ${showDuration(keepMs)}: \`agirunner exec ${taskId}\``)
      }
      return exitCodeOf(result)
    } finally {
      stopListening()
    }
  },
}

/** @returns false when the task has ended already */
async function keepOnFailure(producer: Producer, taskId: string, forMs: number): Promise<boolean> {
  return (await producer.keep(taskId, { forMs, when: 'failure' })) === 'requested'
}

/** Whether a container was there to be kept, and its task ended in a way that is. */
function isKept({ status, container }: TaskResult): boolean {
  return container !== null && status !== 'succeeded' && status !== 'canceled'
}

async function warnWithoutWorkers(
  { producer, settings }: Call,
  taskId: string,
  screen: RunScreen,
): Promise<void> {
  const [workers, result] = await Promise.all([producer().workers(), producer().result(taskId)])
  if (result || workers.some(({ state }) => state !== 'draining')) return
  await screen.say(
    `no worker is alive on queue "${settings.queue}"; ${taskId} waits until one starts, for example by \`agirunner up\``,
  )
}

/** Shows the log and the phases until both have ended. */
async function follow(producer: Producer, taskId: string, screen: RunScreen): Promise<TaskResult> {
  const stop = new AbortController()
  const options = { follow: true, signal: stop.signal }
  const showLog = async () => {
    for await (const entry of producer.logs(taskId, options)) await screen.log(entry)
  }
  const teller = new EventTeller()
  const showEvents = async () => {
    for await (const event of producer.events(taskId, options)) {
      const bar = screen.hasBars && event.type === 'phase.progress' ? barOf(event) : null
      const text = bar === null ? teller.tell(event) : null
      if (bar !== null) await screen.bar(bar)
      if (text) await screen.say(text)
    }
  }
  try {
    const [result] = await Promise.all([
      producer.waitForResult(taskId, { signal: stop.signal }),
      showLog(),
      showEvents(),
    ])
    return result
  } finally {
    // When one of them failed, the others are not to be waited for.
    stop.abort()
  }
}

async function report(result: TaskResult, { io, flag }: Call, screen: RunScreen): Promise<void> {
  await screen.end()
  for (const line of summaryOf(result, paintFor(io.err))) await screen.say(line)
  const failure = failureOf(result)
  if (failure) await io.err.line(`error: ${failure}`)
  if (flag('json')) await io.out.line(JSON.stringify(result))
}

/**
 * The first Ctrl-C or SIGTERM asks for a cancel and goes on waiting, the second leaves at once.
 *
 * @returns a function that restores the signals' usual effect
 */
function cancelOnSignal(producer: Producer, taskId: string, screen: RunScreen): () => void {
  let asked = false
  const onSignal = (signal: NodeJS.Signals) => {
    if (asked) process.exit(EXIT.interrupted)
    asked = true
    const reason = `${signal} to \`agirunner run\``
    void producer.cancel(taskId, reason).then(
      () =>
        screen.say(`asked for ${taskId} to be canceled; waiting for its result; once more leaves at once`),
      (error: unknown) => screen.say(`the cancel could not be asked for: ${(error as Error).message}`),
    )
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return () => {
    process.off('SIGINT', onSignal)
    process.off('SIGTERM', onSignal)
  }
}
