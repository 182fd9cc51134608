import type { Redacted, RedactingStream } from '../../support/redaction/stream.js'
import type { Redactor } from '../../support/redactor.js'
import { incompleteTail } from './characters.js'
import type { StreamName } from './log-files.js'

/** What is told of one stream at once: whole characters, of one step. */
export interface LogPart {
  readonly stream: StreamName
  readonly step: string | null
  /** Where it begins in the stream as the task wrote it, and how many of those bytes it stands for. */
  readonly offset: number
  readonly length: number
  /** The bytes as they may be shown; none for the rest of what was masked just before. */
  readonly bytes: Buffer
}

/** Where in a stream a step begins; in order. */
export interface StepStart {
  readonly name: string | null
  readonly offset: number
}

/**
 * The largest part, in bytes. A reader's cost of an entry hardly depends on its size up to here: of 64 MiB, parts of
 * 16 KiB took 280 ms to receive, these 90, and larger ones more again, because no allocator keeps room for them.
 */
const PART_BYTES = 64 * 1024
const NOTHING = Buffer.alloc(0)

/** Turns one stream's bytes into parts: secrets masked, cut where a step begins and never within a character. */
export class LogPipe {
  readonly stream: StreamName
  readonly #redacting: RedactingStream
  /** Parts begin here: what is pushed of before is only looked at for secrets that reach beyond. */
  readonly #from: number
  /** Not told yet, because a character may not be whole. */
  #pending: { readonly step: string | null; readonly offset: number; bytes: Buffer } | null = null

  /**
   * @param from where the first part is to begin
   * @param context where the first byte is that will be pushed; at least the redactor's margin before `from`, or 0
   */
  constructor(stream: StreamName, redactor: Redactor, from = 0, context = from) {
    this.stream = stream
    this.#from = from
    this.#redacting = redactor.stream(context)
  }

  /** @param steps as far as they have begun by now */
  push(bytes: Buffer, steps: readonly StepStart[]): LogPart[] {
    return this.#parts(this.#redacting.push(bytes), steps, Number.POSITIVE_INFINITY, false)
  }

  /** The rest, up to `until`: what is pushed beyond decides what of it is masked. */
  end(beyond: readonly Buffer[], steps: readonly StepStart[], until = Number.POSITIVE_INFINITY): LogPart[] {
    const pieces = [...beyond.flatMap(bytes => this.#redacting.push(bytes)), ...this.#redacting.flush()]
    // A character that is cut there is left out.
    return this.#parts(pieces, steps, until, until === Number.POSITIVE_INFINITY)
  }

  #parts(pieces: readonly Redacted[], steps: readonly StepStart[], until: number, last: boolean): LogPart[] {
    const parts: LogPart[] = []
    for (const piece of pieces) {
      const wanted = this.#within(piece, until)
      if (wanted) for (const cut of bySteps(wanted, steps)) this.#add(cut, parts)
    }
    this.#emit(parts, last)
    return parts
  }

  /** A mask that begins before has been told already, or was left out; one that ends after takes no room beyond. */
  #within(piece: Redacted, until: number): Redacted | null {
    const end = piece.offset + piece.length
    if (end <= this.#from || piece.offset >= until) return null
    const skipped = Math.max(0, this.#from - piece.offset)
    if (piece.masked) {
      const bytes = skipped > 0 ? NOTHING : piece.bytes.subarray(0, until - piece.offset)
      return { ...piece, offset: piece.offset + skipped, length: piece.length - skipped, bytes }
    }
    const bytes = piece.bytes.subarray(skipped, until - piece.offset)
    return { offset: piece.offset + skipped, length: bytes.length, bytes, masked: false }
  }

  #add({ step, offset, length, bytes, masked }: Redacted & { step: string | null }, parts: LogPart[]): void {
    if (this.#pending && (masked || this.#pending.step !== step)) this.#emit(parts, true)
    if (masked) {
      parts.push({ stream: this.stream, step, offset, length, bytes })
      return
    }
    const pending = this.#pending
    this.#pending = pending
      ? { ...pending, bytes: Buffer.concat([pending.bytes, bytes]) }
      : { step, offset, bytes }
  }

  /** Makes parts of what is pending; the beginning of a character waits for the rest of it, unless it is the last. */
  #emit(parts: LogPart[], last: boolean): void {
    const pending = this.#pending
    if (!pending) return
    const { step, bytes: all } = pending
    const whole = last ? all.length : all.length - incompleteTail(all)
    for (let start = 0; start < whole; ) {
      const bytes = cutAt(all, start, whole)
      const offset = pending.offset + start
      parts.push({ stream: this.stream, step, offset, length: bytes.length, bytes })
      start += bytes.length
    }
    this.#pending =
      whole === all.length
        ? null
        : { step, offset: pending.offset + whole, bytes: Buffer.from(all.subarray(whole)) }
  }
}

function cutAt(all: Buffer, start: number, whole: number): Buffer {
  const bytes = all.subarray(start, Math.min(whole, start + PART_BYTES))
  if (start + bytes.length === whole) return bytes
  return bytes.subarray(0, bytes.length - incompleteTail(bytes))
}

/** What is masked belongs to the step in which it begins. */
function bySteps(piece: Redacted, steps: readonly StepStart[]): (Redacted & { step: string | null })[] {
  const cuts: (Redacted & { step: string | null })[] = []
  const end = piece.offset + piece.length
  for (let from = piece.offset; from < end; ) {
    const step = steps.findLast(({ offset }) => offset <= from)?.name ?? null
    const next = steps.find(({ offset }) => offset > from)?.offset ?? end
    const to = piece.masked ? end : Math.min(end, next)
    const bytes = piece.masked ? piece.bytes : piece.bytes.subarray(from - piece.offset, to - piece.offset)
    cuts.push({ offset: from, length: to - from, bytes, masked: piece.masked, step })
    from = to
  }
  return cuts
}
