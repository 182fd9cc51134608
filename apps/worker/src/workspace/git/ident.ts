const DOLLAR = 0x24
const LF = 0x0a
const [I, D, COLON, SPACE, TAB, CR] = [0x49, 0x64, 0x3a, 0x20, 0x09, 0x0d]
const COLLAPSED = Buffer.from('$Id$')

/** Where a keyword's first dollar is, and what is behind its last. */
interface Keyword {
  readonly start: number
  readonly end: number
}

const CHUNK = 2 ** 16

/**
 * Expands `$Id$` to `$Id: <oid> $`, as git does for a work tree, in pieces that end beside a keyword. Where `$Id`, one
 * byte and `$Id:` follow one another, git's streamed way loses that byte; it stays here.
 *
 * @param streamed git has two ways, which differ where dollars follow one another: one for a file that it converts
 * while it writes it, one for a file that it must see as a whole before
 */
export function* expandIdent(data: Buffer, oid: string, streamed: boolean): Generator<Buffer> {
  let room = Buffer.allocUnsafe(CHUNK)
  let filled = 0
  for (const part of expandedParts(data, oid, streamed)) {
    if (filled + part.length > room.length) {
      yield room.subarray(0, filled)
      room = Buffer.allocUnsafe(CHUNK)
      filled = 0
    }
    if (part.length > room.length) yield part
    else filled += part.copy(room, filled)
  }
  if (filled > 0) yield room.subarray(0, filled)
}

function* expandedParts(data: Buffer, oid: string, streamed: boolean): Generator<Buffer> {
  const expanded = Buffer.from(`$Id: ${oid} $`)
  let written = 0
  for (const { start, end } of keywords(data, streamed)) {
    if (start > written) yield data.subarray(written, start)
    yield expanded
    written = end
  }
  if (written < data.length) yield data.subarray(written)
}

function* keywords(data: Buffer, streamed: boolean): Generator<Keyword> {
  for (let start = data.indexOf(DOLLAR); start >= 0; ) {
    const { end, next } = keywordAt(data, start, streamed)
    if (end !== null) yield { start, end }
    start = data.indexOf(DOLLAR, next)
  }
}

/** @returns its end, null for none, and where the next may begin */
function keywordAt(data: Buffer, start: number, streamed: boolean): { end: number | null; next: number } {
  const none = (taken: number) => ({ end: null, next: start + (streamed ? taken : 1) })
  if (data[start + 1] !== I) return none(2)
  if (data[start + 2] !== D) return none(3)
  if (data[start + 3] === DOLLAR) return { end: start + 4, next: start + 4 }
  if (data[start + 3] !== COLON) return none(4)
  const close = data.indexOf(DOLLAR, start + 4)
  if (close < 0) return { end: null, next: streamed ? lineEnd(data, start) : data.length }
  const text = data.subarray(start + 4, close)
  const lf = text.indexOf(LF)
  if (lf >= 0) return none(4 + lf + 1)
  const foreign = streamed ? isForeignStreamed(text) : isForeign(text)
  return foreign ? none(4 + text.length + 1) : { end: close + 1, next: close + 1 }
}

function lineEnd(data: Buffer, start: number): number {
  const end = data.indexOf(LF, start)
  return end < 0 ? data.length : end + 1
}

/** Of another version control system, whose words stay: a blank that is not the last byte. */
function isForeign(text: Buffer): boolean {
  const space = text.indexOf(SPACE, 1)
  return space >= 0 && space < text.length - 1
}

function isForeignStreamed(text: Buffer): boolean {
  if (text[0] !== SPACE) return false
  return text.subarray(1, -1).some(byte => byte === SPACE || byte === TAB || byte === CR)
}

/** Takes back what expanding did, whatever it was expanded to. */
export function collapseIdent(data: Buffer): Buffer {
  const result = Buffer.allocUnsafe(data.length)
  let [filled, copied] = [0, 0]
  for (let start = data.indexOf('$Id:'); start >= 0; start = data.indexOf('$Id:', start)) {
    const close = data.indexOf(DOLLAR, start + 4)
    if (close < 0) break
    const isWhole = !data.subarray(start, close).includes(LF)
    if (isWhole) {
      filled += data.copy(result, filled, copied, start)
      filled += COLLAPSED.copy(result, filled)
      copied = close + 1
    }
    start = isWhole ? copied : start + 1
  }
  if (copied === 0) return data
  filled += data.copy(result, filled, copied)
  return result.subarray(0, filled)
}
