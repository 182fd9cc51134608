import { createHash } from 'node:crypto'
import { constants, deflateRawSync, deflateSync } from 'node:zlib'
import type { ObjectType, RawObject } from './objects.js'

const CODES: Readonly<Record<ObjectType, number>> = { commit: 1, tree: 2, blob: 3, tag: 4 }
const OFS_DELTA = 6
const MIB = 2 ** 20

/** A pack's first 12 bytes. @param count of objects, whatever really follows */
export function packHeader(count: number): Buffer {
  const header = Buffer.from('PACK\0\0\0\x02\0\0\0\0', 'latin1')
  header.writeUInt32BE(count, 8)
  return header
}

/** A pack of these entries. @param count what its header says; the truth by default */
export function packOf(entries: readonly Buffer[], count = entries.length): Buffer {
  const body = Buffer.concat([packHeader(count), ...entries])
  return Buffer.concat([body, createHash('sha1').update(body).digest()])
}

/** An object as packs hold it, without delta. */
export function packEntry({ type, data }: Pick<RawObject, 'type' | 'data'>): Buffer {
  return Buffer.concat([entryHead(CODES[type], data.length), deflateSync(data)])
}

/** A blob of zeros: 600 MiB of them are 600 KiB. @param said the size that the header tells; the truth by default */
export function zerosEntry(bytes: number, said = bytes): Buffer {
  return Buffer.concat([entryHead(CODES.blob, said), deflatedZeros(bytes)])
}

/** Made of one compressed MiB that is repeated, so that any size costs nothing. @param bytes whole MiB */
function deflatedZeros(bytes: number): Buffer {
  const block = deflateRawSync(Buffer.alloc(MIB), { finishFlush: constants.Z_FULL_FLUSH })
  const end = Buffer.from([1, 0, 0, 255, 255, 0, 0, 0, 1])
  // Adler-32 of zeros: the sum stays 1, and the sum of sums counts them.
  end.writeUInt16BE(bytes % 65_521, 5)
  return Buffer.concat([Buffer.from([0x78, 0x01]), ...Array<Buffer>(bytes / MIB).fill(block), end])
}

/** A delta on the entry that starts `back` bytes earlier. */
export function deltaEntry(back: number, delta: Buffer): Buffer {
  return Buffer.concat([entryHead(OFS_DELTA, delta.length), backwards(back), deflateSync(delta)])
}

/** A delta whose result is its base `times` over. @param size of the base, in bytes */
export function repeatingDelta(size: number, times: number): Buffer {
  const copies: Buffer[] = []
  for (let from = 0; from < size; from += MAX_COPY) copies.push(copyOf(from, Math.min(MAX_COPY, size - from)))
  const whole = Buffer.concat(copies)
  return Buffer.concat([
    deltaSize(size),
    deltaSize(size * times),
    ...Array.from({ length: times }, () => whole),
  ])
}

/** A delta that adds bytes to the end of its base. */
export function appendingDelta(size: number, more: Buffer): Buffer {
  return Buffer.concat([
    deltaSize(size),
    deltaSize(size + more.length),
    copyOf(0, size),
    Buffer.from([more.length]),
    more,
  ])
}

/** Of one copy instruction: its length has three bytes. */
const MAX_COPY = 0xffffff

function copyOf(from: number, length: number): Buffer {
  const instruction = Buffer.alloc(8)
  instruction[0] = 0xff
  instruction.writeUInt32LE(from, 1)
  instruction.writeUIntLE(length, 5, 3)
  return instruction
}

function entryHead(code: number, size: number): Buffer {
  const bytes = [(code << 4) | (size % 16)]
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 0x80
    bytes.push(rest % 128)
  }
  return Buffer.from(bytes)
}

/** Seven bits to a byte, the least first. */
function deltaSize(size: number): Buffer {
  const bytes = [size % 128]
  for (let rest = Math.floor(size / 128); rest > 0; rest = Math.floor(rest / 128)) {
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 0x80
    bytes.push(rest % 128)
  }
  return Buffer.from(bytes)
}

/** Seven bits to a byte, the most first, each longer form starting where the shorter ends. */
function backwards(distance: number): Buffer {
  const bytes = [distance % 128]
  for (let rest = Math.floor(distance / 128); rest > 0; rest = Math.floor(rest / 128)) {
    rest -= 1
    bytes.unshift(0x80 | (rest % 128))
  }
  return Buffer.from(bytes)
}
