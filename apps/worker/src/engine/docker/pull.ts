import { TaskFailure } from '@agirunner/contracts'
import type Docker from 'dockerode'
import type { Secret } from '../../intake/accepted-task.js'
import type { PullProgress } from '../engine.js'
import { asEngineError, hasStatus, toFailure } from './errors.js'

interface PullLine {
  readonly id?: string
  readonly status?: string
  readonly error?: string
  readonly progressDetail?: { readonly current?: number; readonly total?: number }
}

/**
 * Pulls an image and waits until the engine has it. A failed pull answers 200 and says so in a line of its stream,
 * which dockerode's own helper overlooks.
 */
export async function pullImage(
  docker: Docker,
  reference: string,
  options: {
    credentials: { username: string; password: Secret } | null
    progress: PullProgress
    signal: AbortSignal
  },
): Promise<void> {
  const { credentials, signal } = options
  const authconfig = credentials
    ? { username: credentials.username, password: credentials.password.reveal().toString() }
    : undefined
  const tagged = /[:@][^/]*$/.test(reference) ? reference : `${reference}:latest`
  let stream: NodeJS.ReadableStream
  try {
    stream = await docker.pull(tagged, { ...(authconfig ? { authconfig } : {}), abortSignal: signal })
  } catch (error) {
    signal.throwIfAborted()
    throw pullFailure(error, reference)
  }
  await readLines(stream, lineReader(reference, options.progress), signal)
}

function pullFailure(error: unknown, reference: string): TaskFailure {
  const text = asEngineError(error).message
  if (/unauthorized|authentication required|no basic auth/i.test(text)) {
    return new TaskFailure(
      'image.auth_failed',
      `image "${reference}": the registry asks for other credentials; ${text}`,
    )
  }
  if (hasStatus(error, 404) || /not found|manifest unknown|does not exist|denied/i.test(text)) {
    return new TaskFailure(
      'image.not_found',
      `image "${reference}" is neither here nor in its registry; ${text}`,
    )
  }
  if (hasStatus(error, 400)) {
    return new TaskFailure('image.not_found', `image "${reference}" is no valid image reference; ${text}`)
  }
  return toFailure(error, 'image.pull_failed', `image "${reference}" could not be pulled`)
}

function lineReader(reference: string, progress: PullProgress): (line: PullLine) => void {
  const layers = new Map<string, { current: number; total: number }>()
  return line => {
    if (line.error !== undefined)
      throw pullFailure(Object.assign(new Error(line.error), { statusCode: 500 }), reference)
    const { current, total } = line.progressDetail ?? {}
    if (line.id === undefined || line.status !== 'Downloading' || current === undefined) return
    layers.set(line.id, { current, total: total ?? 0 })
    const sums = [...layers.values()]
    progress({
      currentBytes: sums.reduce((sum, layer) => sum + layer.current, 0),
      totalBytes: sums.reduce((sum, layer) => sum + layer.total, 0),
    })
  }
}

/** Reads a stream of JSON lines to its end; a reader that throws ends it. */
async function readLines(
  stream: NodeJS.ReadableStream,
  read: (line: PullLine) => void,
  signal: AbortSignal,
): Promise<void> {
  const stop = () => (stream as NodeJS.ReadableStream & { destroy(): void }).destroy()
  signal.addEventListener('abort', stop, { once: true })
  let rest = ''
  try {
    for await (const chunk of stream) {
      const lines = (rest + chunk.toString()).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (line.trim() !== '') read(JSON.parse(line) as PullLine)
    }
    signal.throwIfAborted()
  } finally {
    signal.removeEventListener('abort', stop)
    stop()
  }
}
