import type { IncomingMessage } from 'node:http'
import { TaskFailure } from '@agirunner/contracts'
import type Docker from 'dockerode'
import type { OutputRun } from '../engine.js'
import { toFailure } from './errors.js'
import { openStream } from './open-stream.js'

/** As long as the engine may take to answer, in milliseconds. */
const ANSWER_MS = 60_000
/** A connection that is gone without a word is noticed by the kernel's own probes, from this many milliseconds on. */
const PROBE_MS = 15_000

/** Follows a container's output. @throws as `ContainerEngine.attach` says */
export async function attachOutput(
  container: Docker.Container,
  signal: AbortSignal,
): Promise<AsyncIterable<OutputRun>> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), ANSWER_MS)
  const call = container.attach({ stream: true, stdout: true, stderr: true })
  try {
    const stream = await openStream(call, AbortSignal.any([signal, late.signal]))
    stream.socket.setKeepAlive(true, PROBE_MS)
    return read(stream, signal)
  } catch (error) {
    signal.throwIfAborted()
    throw toFailure(error, 'container.start_failed', 'follow the output of the container')
  } finally {
    clearTimeout(timer)
  }
}

async function* read(stream: IncomingMessage, signal: AbortSignal): AsyncGenerator<OutputRun> {
  const demultiplexer = new Demultiplexer()
  try {
    for await (const chunk of stream) yield* demultiplexer.push(chunk as Buffer)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    stream.destroy()
  }
}

const HEADER = 8
const STREAMS: readonly (OutputRun['stream'] | undefined)[] = [undefined, 'stdout', 'stderr']

/**
 * Takes the two streams of a container apart: the engine sends frames of `[stream, 0, 0, 0, length in 4 bytes]` and the
 * bytes. A frame's bytes are passed on as they come, so it holds no more than a header, however long a frame says it is.
 */
export class Demultiplexer {
  #header = Buffer.alloc(0)
  #stream: OutputRun['stream'] = 'stdout'
  #left = 0

  /**
   * @returns what the chunk holds, frames of one stream that follow one another as one run
   * @throws TaskFailure `engine.unavailable` when the bytes are no frames
   */
  push(chunk: Buffer): OutputRun[] {
    const runs: { stream: OutputRun['stream']; parts: Buffer[] }[] = []
    for (let at = 0; at < chunk.length; ) {
      if (this.#left === 0) {
        const taken = chunk.subarray(at, at + HEADER - this.#header.length)
        at += taken.length
        this.#addToHeader(taken)
        continue
      }
      const bytes = chunk.subarray(at, at + this.#left)
      at += bytes.length
      this.#left -= bytes.length
      const last = runs.at(-1)
      if (last?.stream === this.#stream) last.parts.push(bytes)
      else runs.push({ stream: this.#stream, parts: [bytes] })
    }
    return runs.map(({ stream, parts }) => ({ stream, bytes: Buffer.concat(parts) }))
  }

  #addToHeader(bytes: Buffer): void {
    const header = Buffer.concat([this.#header, bytes])
    this.#header = header
    if (header.length < HEADER) return
    const stream = STREAMS[header[0] ?? 0]
    if (stream === undefined || header.readUIntBE(1, 3) !== 0) {
      throw new TaskFailure('engine.unavailable', "the engine's output stream holds what is no frame")
    }
    this.#stream = stream
    this.#left = header.readUInt32BE(4)
    this.#header = Buffer.alloc(0)
  }
}
