import { constants } from 'node:os'
import { text } from 'node:stream/consumers'
import type Docker from 'dockerode'
import { sleep } from '../../support/lifecycle.js'
import type { ContainerExit } from '../engine.js'
import { asEngineError, hasStatus, toFailure } from './errors.js'
import { openStream } from './open-stream.js'
import { timed } from './timed.js'

/** 128 + SIGKILL. */
const KILLED = 137
const OOM_LOOKS = 4
const OOM_LOOK_MS = 25
const SIGNAL_LOOKS = 3
const SIGNAL_LOOK_MS = 50
/** How often, and at most how long between two times, an engine is asked that does not answer. */
const MAX_FAILURES = 20
const MAX_PAUSE_MS = 1000
/** How many containers are looked at for one that proves that the engine lived. */
const MAX_SURVIVORS = 16

const GONE: ContainerExit = {
  exitCode: -1,
  oomKilled: false,
  lost: true,
  error: '',
  startedAt: '',
  finishedAt: '',
}

/**
 * Waits for a container's end. `not-running` also answers for a container that has ended already, so no exit can be
 * missed. The connection may break while the container lives on: then it is asked again, until the engine says more.
 *
 * @throws TaskFailure `engine.unavailable` when the engine stays away; the signal's reason
 */
export async function awaitExit(docker: Docker, id: string, signal: AbortSignal): Promise<ContainerExit> {
  const container = docker.getContainer(id)
  const since = Date.now()
  let broke = false
  for (let failures = 0; ; failures += 1) {
    signal.throwIfAborted()
    try {
      await waitForEnd(docker, id, signal)
      const exit = await readWholeExit(container, signal)
      // An engine may have died and come back between a container's start and the first time that somebody waited.
      const seen = !broke && Date.parse(exit.finishedAt) >= since
      const lost = !seen && (await endedByRestart(docker, exit.finishedAt))
      return { ...exit, lost }
    } catch (error) {
      signal.throwIfAborted()
      if (hasStatus(error, 404)) return GONE
      if (failures >= MAX_FAILURES)
        throw toFailure(error, 'engine.unavailable', `wait for container ${id.slice(0, 12)}`)
      broke ||= asEngineError(error).statusCode === undefined
      await sleep(Math.min(MAX_PAUSE_MS, 50 * 2 ** failures), signal)
    }
  }
}

/**
 * The engine answers at once, and the body of its answer comes with the container's end. It is read as a stream, because
 * docker-modem never settles a call whose connection breaks after the head of the answer.
 */
async function waitForEnd(docker: Docker, id: string, signal: AbortSignal): Promise<void> {
  const statusCodes = { 200: true, 404: 'no such container', 500: 'server error' }
  const options = { condition: 'not-running' }
  const request = { path: `/containers/${id}/wait?`, method: 'POST', options, statusCodes, isStream: true }
  const call = new Promise<NodeJS.ReadableStream>((resolve, reject) => {
    docker.modem.dial(request, (error, answer) => {
      if (error) reject(error as Error)
      else resolve(answer as NodeJS.ReadableStream)
    })
  })
  await text(await openStream(call, signal))
}

/**
 * That a container was out of memory is noted apart from its end, and may come after it. Who was killed is asked for
 * again for a moment; nothing is concluded from the status.
 */
async function readWholeExit(container: Docker.Container, signal: AbortSignal): Promise<ContainerExit> {
  let exit = await readExit(container)
  for (let looks = 0; looks < OOM_LOOKS && exit.exitCode === KILLED && !exit.oomKilled; looks += 1) {
    await sleep(OOM_LOOK_MS, signal)
    exit = await readExit(container)
  }
  return exit
}

async function readExit(container: Docker.Container): Promise<ContainerExit> {
  const { State: state } = await timed(container.inspect())
  return {
    exitCode: state.ExitCode,
    oomKilled: state.OOMKilled,
    lost: false,
    error: state.Error,
    startedAt: state.StartedAt,
    finishedAt: state.FinishedAt,
  }
}

/** When a container was started, in Unix milliseconds; null for one that never was, or is gone. */
export async function startedAt(docker: Docker, id: string): Promise<number | null> {
  try {
    const at = Date.parse((await readExit(docker.getContainer(id))).startedAt)
    // One that never was has the year 1.
    return at > 0 ? at : null
  } catch (error) {
    if (hasStatus(error, 404)) return null
    throw error
  }
}

/** Whether the engine noted meanwhile that a container was out of memory. */
export async function wasOutOfMemory(docker: Docker, id: string): Promise<boolean> {
  return (await readExit(docker.getContainer(id))).oomKilled
}

interface EngineEvent {
  readonly Actor?: { readonly Attributes?: Readonly<Record<string, string>> }
}

/**
 * Whether the engine itself may have ended what ended then: an engine that starts ends every container that it finds, with
 * statuses that are not the tasks', unless it is set to let them live. When in doubt the status is not believed: the worst is
 * a task that may run again, in place of a success that never was.
 *
 * @param endedAt on the engine's clock, as it told it
 */
async function endedByRestart(docker: Docker, endedAt: string): Promise<boolean> {
  if (await servedBefore(docker, Date.parse(endedAt))) return false
  const { LiveRestoreEnabled: letsLive } = (await timed(docker.info())) as { LiveRestoreEnabled?: boolean }
  return letsLive !== true && !(await runsSince(docker, Date.parse(endedAt)))
}

/**
 * Whether this very process of the engine did something for a client before that time. It keeps its last 256 events in
 * memory, and serves nobody before it has ended what it found.
 */
async function servedBefore(docker: Docker, time: number): Promise<boolean> {
  const served = { type: ['container'], event: ['create', 'exec_create'] }
  return Number.isFinite(time) && (await eventsUntil(docker, time / 1000, served)).length > 0
}

/**
 * Whether a container still runs that ran before that time: it would have been ended as well. That is what is left to ask on
 * an engine so busy that it has forgotten the time.
 */
async function runsSince(docker: Docker, time: number): Promise<boolean> {
  const running = await timed(docker.listContainers())
  const old = running.filter(({ Created: seconds }) => seconds * 1000 < time)
  for (const { Id: id } of old.slice(-MAX_SURVIVORS)) {
    const { State: state } = await timed(docker.getContainer(id).inspect())
    if (state.Running && Date.parse(state.StartedAt) < time) return true
  }
  return false
}

/**
 * The signals that somebody sent a container through the engine, the last one first, such as `SIGKILL`. Looks more than
 * once: the engine notes a signal after it has sent it.
 */
export async function signalsTo(docker: Docker, id: string): Promise<string[]> {
  const names = new Map(Object.entries(constants.signals).map(([name, number]) => [String(number), name]))
  for (let looks = 1; ; looks += 1) {
    const filters = { type: ['container'], container: [id], event: ['kill'] }
    const events = await eventsUntil(docker, Date.now() / 1000, filters)
    const signals = events.map(event => event.Actor?.Attributes?.signal ?? '')
    if (signals.length > 0) return signals.toReversed().map(signal => names.get(signal) ?? signal)
    if (looks >= SIGNAL_LOOKS) return []
    await sleep(SIGNAL_LOOK_MS)
  }
}

/** What the engine remembers up to a time, in seconds since 1970 on its clock. */
async function eventsUntil(
  docker: Docker,
  until: number,
  filters: Readonly<Record<string, string[]>> = {},
): Promise<EngineEvent[]> {
  const stream = await timed(
    docker.getEvents({ since: 1, until: Math.round(until * 1000) / 1000, filters: { ...filters } }),
  )
  const lines = await timed(text(stream))
  return lines
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line) as EngineEvent)
}
