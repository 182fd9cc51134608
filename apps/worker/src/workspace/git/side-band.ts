import { ObjectError } from './objects.js'

/** What a pack's data goes to, in the order of the pack. */
export type PackSink = (data: Uint8Array) => void

const PACK = 1
const ERROR = 3
const HEADER_BYTES = 4
/** No pkt-line is longer (gitprotocol-common). */
const MAX_LINE_BYTES = 65_520

/**
 * Takes the pack out of an answer of git-upload-pack and passes everything else on: the caller's library reads the
 * negotiation and the server's messages, and the pack, which may be gigabytes, goes where `sink` puts it instead of
 * into the library's memory.
 *
 * @throws ObjectError when the answer is not made of pkt-lines
 */
export async function* withoutPack(
  body: AsyncIterable<Uint8Array>,
  sink: PackSink,
): AsyncGenerator<Uint8Array, void, undefined> {
  let rest: Buffer = Buffer.alloc(0)
  let text = ''
  for await (const chunk of body) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
    const passed: Buffer[] = []
    let at = 0
    for (let length = lengthAt(rest, at); length > 0 && at + length <= rest.length; ) {
      const line = rest.subarray(at, at + length)
      const band = length > HEADER_BYTES ? line[HEADER_BYTES] : 0
      if (band === PACK) sink(line.subarray(HEADER_BYTES + 1))
      else passed.push(line)
      if (band === ERROR && text.length < 1000) text += line.toString('utf8', HEADER_BYTES + 1)
      at += length
      length = lengthAt(rest, at)
    }
    rest = rest.subarray(at)
    if (passed.length > 0) yield Buffer.concat(passed)
  }
  if (rest.length > 0) throw new ObjectError('the answer ends in the middle of a line')
  if (text !== '') throw new ObjectError(`the server says "${text.trim()}"`)
}

/** The whole length of the line that starts there, its header included; 0 when the header is not whole yet. */
function lengthAt(buffer: Buffer, at: number): number {
  if (buffer.length - at < HEADER_BYTES) return 0
  const header = buffer.toString('latin1', at, at + HEADER_BYTES)
  if (!/^[0-9a-f]{4}$/i.test(header)) throw new ObjectError('the answer is not made of pkt-lines')
  const length = Number.parseInt(header, 16)
  // 0000, 0001 and 0002 are marks without content.
  if (length < 3) return HEADER_BYTES
  if (length < HEADER_BYTES || length > MAX_LINE_BYTES) throw new ObjectError('a line has no valid length')
  return length
}
