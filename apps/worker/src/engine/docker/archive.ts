import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { TaskFailure } from '@agirunner/contracts'
import type Docker from 'dockerode'
import { rejectOnAbort } from '../../support/lifecycle.js'
import { hasStatus, toFailure } from './errors.js'
import { openStream } from './open-stream.js'

/** An archive in whose transfer nothing moves for so long is given up, in milliseconds. */
const STALL_MS = 60_000

/** Sends an archive. @throws as `ContainerEngine.putArchive` says */
export async function putArchive(
  container: Docker.Container,
  folder: string,
  archive: Readable,
  { signal, progress }: { signal: AbortSignal; progress: (bytes: number) => void },
): Promise<void> {
  const stall = new StallGuard(signal)
  let bytes = 0
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      stall.moved()
      progress(bytes)
      done(null, chunk)
    },
  })
  // What goes wrong with it ends the call, which tells.
  meter.on('error', () => undefined)
  pipeline(archive, meter, { signal: stall.signal }).catch(() => undefined)
  try {
    await Promise.race([container.putArchive(meter, { path: folder }), rejectOnAbort(stall.signal)])
  } catch (error) {
    signal.throwIfAborted()
    if (archive.errored && !stall.signal.aborted) throw archive.errored
    throw stall.failure ?? toFailure(error, 'container.create_failed', 'send the workspace to the engine')
  } finally {
    stall.end()
    // With an error, or a request that was given up would stay open half-sent.
    meter.destroy(new Error('the transfer is over'))
    archive.destroy()
  }
}

/** Fetches an archive. @throws while reading, as `ContainerEngine.getArchive` says */
export async function* getArchive(
  container: Docker.Container,
  path: string,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const stall = new StallGuard(signal)
  let stream: Readable | null = null
  try {
    stream = await openStream(container.getArchive({ path }), stall.signal)
    for await (const chunk of stream) {
      stall.moved()
      yield chunk as Buffer
      // The reader may have taken its time.
      stall.moved()
    }
  } catch (error) {
    signal.throwIfAborted()
    if (hasStatus(error, 404)) return
    throw stall.failure ?? toFailure(error, 'capture.failed', 'read back what the task left')
  } finally {
    stall.end()
    // An archive that nobody reads to its end would hold the engine's lock on the container.
    stream?.destroy()
  }
}

/** Aborts when nothing has moved for too long, or with the outer signal. */
class StallGuard {
  readonly signal: AbortSignal
  readonly #stalled = new AbortController()
  readonly #timer: NodeJS.Timeout

  constructor(outer: AbortSignal) {
    this.signal = AbortSignal.any([outer, this.#stalled.signal])
    this.#timer = setTimeout(() => this.#stalled.abort(), STALL_MS)
  }

  get failure(): TaskFailure | null {
    if (!this.#stalled.signal.aborted) return null
    return new TaskFailure('engine.unavailable', `no byte of an archive moved within ${STALL_MS / 1000} s`)
  }

  moved(): void {
    this.#timer.refresh()
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}
