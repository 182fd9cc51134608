import { LineError } from './pkt-lines.js'

/** What a server offers to whoever pushes. */
export interface Offer {
  /** Full names of refs, and where they are. */
  readonly refs: ReadonlyMap<string, string>
  readonly capabilities: ReadonlySet<string>
}

/** What a server says became of a push. */
export interface Report {
  /** `ok`, or why the pack was not taken; null when it does not say. */
  readonly unpack: string | null
  /** Per ref: null when it was set, else why not. */
  readonly refs: ReadonlyMap<string, string | null>
  /** What it and its hooks have to say to a person, cut. */
  readonly said: string
}

export const NO_COMMIT = '0'.repeat(40)
const SHA = /^[0-9a-f]{40}$/
const FLUSH = null
/** Of what hooks print, in bytes. */
const MAX_SAID = 16 * 1024
const MAX_LINE = 65_520

/** A pkt-line of text. */
export function line(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.from((bytes.length + 4).toString(16).padStart(4, '0')), bytes])
}

/**
 * Reads the answer to `info/refs?service=git-receive-pack`.
 *
 * @throws LineError when it is none
 */
export function parseOffer(answer: Buffer): Offer {
  const lines = linesOf(answer).filter(one => one !== FLUSH)
  if (lines[0]?.toString().trim() === '# service=git-receive-pack') lines.shift()
  const refs = new Map<string, string>()
  const capabilities = new Set<string>()
  for (const [index, bytes] of lines.entries()) {
    const text = bytes.toString('utf8')
    const border = text.indexOf('\0')
    if (index === 0 && border >= 0)
      for (const word of text
        .slice(border + 1)
        .trim()
        .split(' '))
        capabilities.add(word)
    const [oid, name] = split(border < 0 ? text : text.slice(0, border))
    if (oid === 'shallow') continue
    if (!SHA.test(oid) || name === '') throw new LineError('it lists refs without valid ids')
    // What an empty repository lists, and what others have without naming it.
    if (name !== 'capabilities^{}' && name !== '.have') refs.set(name, oid)
  }
  return { refs, capabilities }
}

function split(text: string): [string, string] {
  const plain = text.replace(/\n$/, '')
  const space = plain.indexOf(' ')
  return space < 0 ? [plain, ''] : [plain.slice(0, space), plain.slice(space + 1)]
}

/**
 * Reads the answer to a push.
 *
 * @param banded whether it comes in side bands
 * @throws LineError when it is none
 */
export function parseReport(answer: Buffer, banded: boolean): Report {
  const report = { unpack: null as string | null, refs: new Map<string, string | null>(), said: '' }
  const plain = banded ? unband(answer, report) : answer
  for (const bytes of linesOf(plain)) {
    if (bytes === FLUSH) continue
    const text = bytes.toString('utf8').replace(/\n$/, '')
    const [word, rest] = split(text)
    const [name, why] = split(rest)
    if (word === 'unpack') report.unpack = rest
    else if (word === 'ok') report.refs.set(name, null)
    else if (word === 'ng') report.refs.set(name, why || 'it does not say why')
  }
  return report
}

/** Takes what is for people out, and joins the rest. */
function unband(answer: Buffer, report: { said: string }): Buffer {
  const data: Buffer[] = []
  for (const bytes of linesOf(answer)) {
    if (bytes === FLUSH) continue
    if (bytes[0] === 1) data.push(bytes.subarray(1))
    else if (report.said.length < MAX_SAID)
      report.said = (report.said + bytes.toString('utf8', 1)).slice(0, MAX_SAID)
  }
  return Buffer.concat(data)
}

/** The lines of an answer, null for a flush. @throws LineError where it is not made of lines */
function linesOf(answer: Buffer): (Buffer | typeof FLUSH)[] {
  const lines: (Buffer | typeof FLUSH)[] = []
  for (let at = 0; at < answer.length; ) {
    const head = answer.toString('latin1', at, at + 4)
    const length = /^[0-9a-f]{4}$/i.test(head) ? Number.parseInt(head, 16) : Number.NaN
    if (length === 0) {
      lines.push(FLUSH)
      at += 4
      continue
    }
    if (!(length >= 4 && length <= MAX_LINE) || at + length > answer.length)
      throw new LineError('its answer is not made of lines')
    lines.push(answer.subarray(at + 4, at + length))
    at += length
  }
  return lines
}
