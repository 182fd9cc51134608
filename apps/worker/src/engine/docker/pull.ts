import { TaskFailure } from '@agirunner/contracts'
import type Docker from 'dockerode'
import { rejectOnAbort } from '../../support/lifecycle.js'
import type { ContainerEngine, PullProgress, RegistryCredentials } from '../engine.js'
import { openStream } from './open-stream.js'
import { pullFailure } from './pull-failure.js'

interface PullLine {
  readonly id?: string
  readonly status?: string
  readonly error?: string
  readonly progressDetail?: { readonly current?: number; readonly total?: number }
}

/** Progress is told at most this often, in milliseconds. */
const PROGRESS_MS = 500
/** How long a registry may take to say whether it gives an image. */
const ASK_MS = 30_000

/**
 * Pulls an image and waits until the engine has it. A failed pull answers 200 and says so in a line of its stream,
 * which dockerode's own helper overlooks.
 */
export async function pullImage(
  docker: Docker,
  reference: string,
  { credentials, progress, idleMs, signal }: Parameters<ContainerEngine['pull']>[1],
): Promise<void> {
  const idle = new IdleTimer(idleMs, reference)
  const inner = AbortSignal.any([signal, idle.signal])
  const tagged = /[:@][^/]*$/.test(reference) ? reference : `${reference}:latest`
  try {
    const stream = await openStream(
      docker.pull(tagged, { ...authOf(credentials), abortSignal: inner }),
      inner,
    )
    const layers = new LayerSums(progress)
    for await (const line of jsonLines(stream)) {
      // Lines of a layer that waits to be tried again come every second, and bring nothing.
      if (!line.status?.startsWith('Retrying')) idle.moved()
      if (line.error !== undefined) throw Object.assign(new Error(line.error), { statusCode: 500 })
      layers.take(line)
    }
    layers.tell()
  } catch (error) {
    inner.throwIfAborted()
    throw pullFailure(error, reference, credentials !== null)
  } finally {
    idle.stop()
  }
}

/** Asks a registry through the engine whether it gives an image; the manifest is looked up and nothing is pulled. */
export async function askRegistry(
  docker: Docker,
  reference: string,
  { credentials, signal }: Parameters<ContainerEngine['askRegistry']>[1],
): Promise<void> {
  const late = new TaskFailure(
    'image.pull_failed',
    `image "${reference}": its registry did not answer within ${ASK_MS / 1000} s`,
  )
  const idle = AbortSignal.timeout(ASK_MS)
  const inner = AbortSignal.any([signal, idle])
  try {
    await Promise.race([docker.getImage(reference).distribution(authOf(credentials)), rejectOnAbort(inner)])
  } catch (error) {
    signal.throwIfAborted()
    if (idle.aborted) throw late
    throw pullFailure(error, reference, credentials !== null)
  }
}

function authOf(credentials: RegistryCredentials | null): { authconfig?: Docker.AuthConfig } {
  if (credentials === null) return {}
  const auth =
    'identityToken' in credentials
      ? { identitytoken: credentials.identityToken.reveal().toString() }
      : { username: credentials.username, password: credentials.password.reveal().toString() }
  return { authconfig: auth as Docker.AuthConfig }
}

/** Ends a pull from which nothing comes. A registry that says nothing holds an engine for hours. */
class IdleTimer {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout

  constructor(idleMs: number, reference: string) {
    const failure = new TaskFailure(
      'image.pull_failed',
      `image "${reference}": its registry sent nothing for ${idleMs / 1000} s`,
    )
    this.#timer = setTimeout(() => this.#controller.abort(failure), idleMs)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  moved(): void {
    this.#timer.refresh()
  }

  stop(): void {
    clearTimeout(this.#timer)
  }
}

/** Sums what layers say of themselves, and tells it now and then. */
class LayerSums {
  readonly #layers = new Map<string, { current: number; total: number }>()
  readonly #progress: PullProgress
  #next = 0
  #untold = false

  constructor(progress: PullProgress) {
    this.#progress = progress
  }

  take({ id, status, progressDetail }: PullLine): void {
    if (id === undefined) return
    const { current, total } = progressDetail ?? {}
    const known = this.#layers.get(id)
    if (status === 'Downloading' && current !== undefined)
      this.#layers.set(id, { current, total: total ?? current })
    else if (status === 'Download complete' && known)
      this.#layers.set(id, { current: known.total, total: known.total })
    else return
    this.#untold = true
    if (Date.now() < this.#next) return
    this.#next = Date.now() + PROGRESS_MS
    this.tell()
  }

  /** Tells what was not told yet. */
  tell(): void {
    if (!this.#untold) return
    this.#untold = false
    const sums = [...this.#layers.values()]
    this.#progress({
      currentBytes: sums.reduce((sum, layer) => sum + layer.current, 0),
      totalBytes: sums.reduce((sum, layer) => sum + layer.total, 0),
    })
  }
}

async function* jsonLines(stream: NodeJS.ReadableStream): AsyncGenerator<PullLine> {
  let rest = ''
  for await (const chunk of stream) {
    const lines = (rest + chunk.toString()).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line) as PullLine
  }
}
