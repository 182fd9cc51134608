/**
 * The headers of the tar format, ustar with pax records. Names are bytes, held as latin1 strings: a repository and a
 * task may use any byte but `/` and NUL, and the libraries for tar take names for UTF-8, which changes those that are not.
 *
 * https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html
 */

export const BLOCK = 512

export type TarType =
  | 'file'
  | 'folder'
  | 'symlink'
  | 'hardlink'
  | 'fifo'
  | 'character_device'
  | 'block_device'

export interface TarHeader {
  readonly type: TarType
  /** Without a slash at the end. */
  readonly name: string
  /** Where a symlink points, or the name of the entry that a hard link is the same as. */
  readonly link: string
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** In bytes; 0 for what is no file. */
  readonly size: number
  /** Nanoseconds since 1970. */
  readonly mtimeNs: bigint
}

/** An archive that breaks the format or a rule of ours. */
export class TarError extends Error {}

const FLAGS: Readonly<Record<TarType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character_device: '3',
  block_device: '4',
  folder: '5',
  fifo: '6',
}
const TYPES = new Map(Object.entries(FLAGS).map(([type, flag]) => [flag, type as TarType]))
const SECOND = 1_000_000_000n
const MAX_NAME = 100

/** The blocks before an entry's content; what does not fit the old fields goes into a pax header before them. */
export function encodeHeader(header: TarHeader): Buffer {
  const name = header.type === 'folder' ? `${header.name}/` : header.name
  const records: [string, string][] = []
  if (name.length > MAX_NAME) records.push(['path', name])
  if (header.link.length > MAX_NAME) records.push(['linkpath', header.link])
  if (header.size >= 8 ** 11) records.push(['size', String(header.size)])
  if (header.uid >= 8 ** 7) records.push(['uid', String(header.uid)])
  if (header.gid >= 8 ** 7) records.push(['gid', String(header.gid)])
  if (header.mtimeNs < 0n || header.mtimeNs % SECOND !== 0n) records.push(['mtime', decimal(header.mtimeNs)])
  const own = encodeBlock({ ...header, name }, FLAGS[header.type])
  if (records.length === 0) return own
  const body = Buffer.from(records.map(([key, value]) => paxRecord(key, value)).join(''), 'latin1')
  const pax: TarHeader = { ...header, name: 'pax', link: '', mode: 0o600, size: body.length, mtimeNs: 0n }
  return Buffer.concat([encodeBlock(pax, 'x'), body, padding(body.length), own])
}

/** What fills the last block of a content of that size. */
export function padding(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

/** Two empty blocks: the end of an archive. */
export const END_OF_ARCHIVE = Buffer.alloc(2 * BLOCK)

function encodeBlock(header: TarHeader, flag: string): Buffer {
  const block = Buffer.alloc(BLOCK)
  block.write(header.name.slice(0, MAX_NAME), 0, 'latin1')
  writeOctal(block, header.mode, 100, 8)
  writeOctal(block, header.uid, 108, 8)
  writeOctal(block, header.gid, 116, 8)
  writeOctal(block, header.size, 124, 12)
  writeOctal(block, header.mtimeNs < 0n ? 0 : Number(header.mtimeNs / SECOND), 136, 12)
  block.write(flag, 156, 'latin1')
  block.write(header.link.slice(0, MAX_NAME), 157, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  writeOctal(block, checksum(block), 148, 8)
  return block
}

/** A number that doesn't fit is in a pax record as well, which is the one that counts. */
function writeOctal(block: Buffer, value: number, at: number, width: number): void {
  const digits = value.toString(8).padStart(width - 1, '0')
  block.write(digits.length < width ? digits : '0'.repeat(width - 1), at, 'latin1')
}

/** `<length> <key>=<value>\n`, the length counting itself. */
function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`
  let length = rest.length
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return length + rest
}

function decimal(ns: bigint): string {
  const [sign, positive] = ns < 0n ? ['-', -ns] : ['', ns]
  return `${sign}${positive / SECOND}.${String(positive % SECOND).padStart(9, '0')}`
}

/** What one header block says: an entry, records about the next one, the end, or a kind that we know nothing of. */
export type Decoded =
  | { readonly kind: 'entry'; readonly header: TarHeader }
  | { readonly kind: 'pax' | 'global_pax' | 'long_name' | 'long_link'; readonly size: number }
  | { readonly kind: 'end' }
  | { readonly kind: 'unknown'; readonly size: number }

const META = { x: 'pax', g: 'global_pax', L: 'long_name', K: 'long_link' } as const

/** @throws TarError when the block is no header */
export function decodeBlock(block: Buffer): Decoded {
  if (block.every(byte => byte === 0)) return { kind: 'end' }
  if (readNumber(block, 148, 8) !== checksum(block)) throw new TarError('a header has a wrong checksum')
  const flag = block.toString('latin1', 156, 157).replace('\0', '0')
  const size = readSize(block)
  if (flag in META) return { kind: META[flag as keyof typeof META], size }
  const type = TYPES.get(flag)
  if (type === undefined) return { kind: 'unknown', size }
  const header: TarHeader = {
    type,
    name: readName(block),
    link: readText(block, 157, 100),
    mode: readNumber(block, 100, 8) & 0o7777,
    uid: readNumber(block, 108, 8),
    gid: readNumber(block, 116, 8),
    size: type === 'file' ? size : 0,
    mtimeNs: BigInt(readNumber(block, 136, 12)) * SECOND,
  }
  return { kind: 'entry', header }
}

/** Reads pax records. @throws TarError when they break the format */
export function decodePax(body: Buffer): Map<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < body.length; ) {
    const space = body.indexOf(0x20, at)
    const length = Number(body.toString('latin1', at, space))
    const record = body.subarray(space + 1, at + length)
    const equals = record.indexOf(0x3d)
    const isWhole = space > at && Number.isInteger(length) && record.at(-1) === 10 && equals > 0
    if (!isWhole || at + length > body.length) throw new TarError('a pax record is not whole')
    records.set(
      record.toString('latin1', 0, equals),
      record.toString('latin1', equals + 1, record.length - 1),
    )
    at += length
  }
  return records
}

/** An entry with what the records before it say of it. @throws TarError for a size that is none */
export function applyPax(header: TarHeader, records: ReadonlyMap<string, string>): TarHeader {
  const size = records.get('size')
  const known = size === undefined || header.type !== 'file' ? header.size : Number(size)
  if (!Number.isSafeInteger(known) || known < 0) throw new TarError('an entry has no sane size')
  const named = { ...header, size: known, link: records.get('linkpath') ?? header.link }
  const name = records.get('path') ?? header.name
  // Not before: of a name that stands in the records, the block may hold no more than its beginning.
  const type = header.type === 'file' && name.endsWith('/') ? 'folder' : header.type
  return { ...named, type, name: name.replace(/\/+$/, '') }
}

function readName(block: Buffer): string {
  const name = readText(block, 0, 100)
  // Only POSIX's own form has a prefix; GNU's, with a blank after "ustar", keeps times there.
  const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? readText(block, 345, 155) : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

function readText(block: Buffer, at: number, width: number): string {
  const end = block.indexOf(0, at)
  return block.toString('latin1', at, end === -1 ? at + width : Math.min(end, at + width))
}

/** Octal digits, or GNU's form: a big-endian two's complement behind a bit that is set. */
function readNumber(block: Buffer, at: number, width: number): number {
  const field = block.subarray(at, at + width)
  const isBinary = ((field[0] ?? 0) & 0x80) !== 0
  const digits = field.toString('latin1').replace(/[\0 ]+/g, '')
  const octal = /^[0-7]*$/.test(digits) ? Number.parseInt(`0${digits}`, 8) : Number.NaN
  const value = isBinary ? Number(BigInt.asIntN(width * 8 - 1, BigInt(`0x${field.toString('hex')}`))) : octal
  if (!Number.isSafeInteger(value)) throw new TarError('a header holds a number that is none')
  return value
}

function readSize(block: Buffer): number {
  const size = readNumber(block, 124, 12)
  if (size < 0) throw new TarError('an entry has no sane size')
  return size
}

function checksum(block: Buffer): number {
  let sum = 8 * 0x20
  for (let at = 0; at < BLOCK; at += 1) if (at < 148 || at >= 156) sum += block[at] ?? 0
  return sum
}
