/** What an answer is not made of. */
export class LineError extends Error {}

const HEAD_DIGITS = 4
/** No pkt-line is longer, its head included (gitprotocol-common). */
const MAX_LINE_BYTES = 65_520
/** Of a line's text that may be told to a person. */
const MAX_TEXT = 300
const ERROR_BAND = '\x03'
const FLUSH = 0

/**
 * Watches an answer of git-upload-pack go by, and says when it is none. isomorphic-git takes whatever it can't read for
 * the end of the answer: a broken list of refs for an empty repository, and a server's excuse for nothing at all.
 */
export class LineWatch {
  readonly #isFetch: boolean
  #head = ''
  /** Bytes of the current line that are still to come. */
  #left = 0
  #text = ''
  #ended = false

  /** @param isFetch leaves a line with `ERR` to the caller: a refusal to give one commit is no broken answer */
  constructor(isFetch: boolean) {
    this.#isFetch = isFetch
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
    this.#text = ''
    this.#left = isMark ? 0 : length - HEAD_DIGITS
    this.#ended = length === FLUSH
    return end
  }

  #pass(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + this.#left)
    if (this.#text.length < MAX_TEXT) {
      this.#text += bytes.toString('latin1', at, Math.min(end, at + MAX_TEXT - this.#text.length))
    }
    this.#left -= end - at
    if (this.#left === 0) this.#listen()
    return end
  }

  #listen(): void {
    const isRefusal = this.#text.startsWith('ERR ')
    if (isRefusal && this.#isFetch) this.#ended = true
    else if (isRefusal) throw said(this.#text.slice('ERR '.length))
    else if (this.#text.startsWith(ERROR_BAND)) throw said(this.#text.slice(1))
  }
}

const said = (text: string) => new LineError(`it says ${JSON.stringify(text.trim())}`)
