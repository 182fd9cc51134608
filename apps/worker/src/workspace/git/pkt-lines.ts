/** What an answer is not made of. */
export class LineError extends Error {}

const HEAD_DIGITS = 4
/** No pkt-line is longer, its head included (gitprotocol-common). */
const MAX_LINE_BYTES = 65_520
/** Of what a server says, as a person is told it. */
const MAX_TOLD = 300
/** How servers say that they have no such object, or don't give it by its id. */
const REFUSAL = /not our ref|not (?:a )?valid|unadvertised|unknown|not found|does(?: not|n't) exist/i
const ERROR_BAND = '\x03'
const FLUSH = 0

/**
 * Watches an answer of git-upload-pack go by, and says when it is none. isomorphic-git takes whatever it can't read for
 * the end of the answer: a broken list of refs for an empty repository, and a server's excuse for nothing at all.
 */
export class LineWatch {
  readonly #isFetch: boolean
  readonly #clean: (text: string) => string
  #head = ''
  /** Bytes of the current line that are still to come. */
  #left = 0
  /** Of the current line, if it is an error. */
  #text: Buffer[] = []
  #ended = false

  /**
   * @param isFetch leaves a refusal to give some commit to the caller: it may ask in another way
   * @param clean takes out of a server's words what nobody may be told
   */
  constructor(isFetch: boolean, clean: (text: string) => string) {
    this.#isFetch = isFetch
    this.#clean = clean
  }

  /** @throws LineError when it is made of no lines, or one of them says that the server failed */
  push(chunk: Uint8Array): void {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    for (let at = 0; at < bytes.length; ) {
      at = this.#left > 0 ? this.#pass(bytes, at) : this.#measure(bytes, at)
    }
  }

  /** @throws LineError when the answer is not whole */
  end(): void {
    if (this.#left > 0 || this.#head !== '') throw new LineError('its answer ends inside a line')
    if (!this.#ended) throw new LineError('its answer has no end')
  }

  #measure(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + HEAD_DIGITS - this.#head.length)
    this.#head += bytes.toString('latin1', at, end)
    if (this.#head.length < HEAD_DIGITS) return end
    const length = /^[0-9a-f]{4}$/i.test(this.#head) ? Number.parseInt(this.#head, 16) : Number.NaN
    // 0000, 0001 and 0002 are marks without content.
    const isMark = length < 3
    if (!isMark && !(length >= HEAD_DIGITS && length <= MAX_LINE_BYTES)) {
      throw new LineError(`its answer has ${JSON.stringify(this.#head)} where the length of a line belongs`)
    }
    this.#head = ''
    this.#text = []
    this.#left = isMark ? 0 : length - HEAD_DIGITS
    this.#ended = length === FLUSH
    return end
  }

  #pass(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + this.#left)
    this.#left -= end - at
    const [first] = this.#text
    if (!first || mayBeError(first)) this.#text.push(Buffer.from(bytes.subarray(at, end)))
    if (this.#left === 0) this.#listen()
    return end
  }

  #listen(): void {
    const [first] = this.#text
    if (!first || !mayBeError(first)) return
    const text = Buffer.concat(this.#text).toString()
    const isRefusal = text.startsWith('ERR ')
    if (isRefusal && this.#isFetch && REFUSAL.test(text)) this.#ended = true
    else if (isRefusal) throw this.#said(text.slice('ERR '.length))
    else if (text.startsWith(ERROR_BAND)) throw this.#said(text.slice(ERROR_BAND.length))
  }

  #said(text: string): LineError {
    return new LineError(`it says ${JSON.stringify(this.#clean(text.trim()).slice(0, MAX_TOLD))}`)
  }
}

/** By its first byte, which is all that is sure to have come: most lines hold a pack and need not be kept. */
function mayBeError(start: Buffer): boolean {
  return start[0] === 'E'.charCodeAt(0) || start[0] === ERROR_BAND.charCodeAt(0)
}
