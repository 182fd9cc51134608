import { isUtf8 } from 'node:buffer'

/** What this platform converts exactly as git's iconv does. */
type Known = 'utf8' | 'utf16' | 'utf16le' | 'utf16be' | 'utf16le-bom'

const KNOWN: ReadonlyMap<string, Known> = new Map([
  ['8', 'utf8'],
  ['16', 'utf16'],
  ['16le', 'utf16le'],
  ['16be', 'utf16be'],
  ['16le-bom', 'utf16le-bom'],
])
const BOM_LE = Buffer.from([0xff, 0xfe])
const BOM_BE = Buffer.from([0xfe, 0xff])
const CHUNK = 2 ** 16

/** @returns null for an encoding that is left alone */
export function knownEncoding(name: string): Known | null {
  const form = /^utf-?(.*)$/.exec(name.toLowerCase())?.[1]
  return form === undefined ? null : (KNOWN.get(form) ?? null)
}

/** The bytes of UTF-8 text in another encoding, piece by piece. The pieces must be valid as a whole. */
export function* encode(pieces: Iterable<Buffer>, encoding: Exclude<Known, 'utf8'>): Generator<Buffer> {
  if (encoding === 'utf16' || encoding === 'utf16le-bom') yield BOM_LE
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at += CHUNK) {
      const text = decoder.decode(piece.subarray(at, at + CHUNK), { stream: true })
      const bytes = Buffer.from(text, 'utf16le')
      yield encoding === 'utf16be' ? bytes.swap16() : bytes
    }
  }
}

/** @returns null where git refuses: bytes that are none of that encoding, or a byte order mark missing or too many */
export function decode(data: Buffer, encoding: Exclude<Known, 'utf8'>): Buffer | null {
  const mark = [BOM_LE, BOM_BE].find(bom => data.subarray(0, 2).equals(bom)) ?? null
  const marked = encoding === 'utf16' || encoding === 'utf16le-bom'
  if (mark === null ? encoding === 'utf16' : !marked) return null
  const isBig = encoding === 'utf16be' || mark === BOM_BE
  try {
    const decoder = new TextDecoder(isBig ? 'utf-16be' : 'utf-16le', { fatal: true, ignoreBOM: true })
    return Buffer.from(decoder.decode(mark === null ? data : data.subarray(2)))
  } catch (error) {
    if (error instanceof TypeError) return null
    throw error
  }
}

/** Whether bytes of git's side can be encoded at all. */
export const isEncodable = (data: Buffer) => isUtf8(data)
