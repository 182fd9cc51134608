import type { IncomingMessage } from 'node:http'
import { addAbortSignal } from 'node:stream'
import { rejectOnAbort } from '../../support/lifecycle.js'

/**
 * Waits for a stream of the engine's and ties it to a signal. The signal that dockerode takes is heard only until the
 * request is sent, neither while the engine thinks nor while it streams.
 */
export async function openStream(
  call: Promise<NodeJS.ReadableStream>,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  try {
    const stream = (await Promise.race([call, rejectOnAbort(signal)])) as IncomingMessage
    return addAbortSignal(signal, stream)
  } catch (error) {
    // One that comes when nobody waits any more must not stay open.
    call.then(
      late => (late as IncomingMessage).destroy(),
      () => undefined,
    )
    throw error
  }
}
