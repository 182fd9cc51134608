import type { Conversion } from './attributes.js'
import { decode, encode, isEncodable, knownEncoding } from './encoding.js'
import { collapseIdent, expandIdent } from './ident.js'

const LF = 0x0a
const CR = 0x0d
const CTRL_Z = 0x1a
const CHUNK = 2 ** 16

/**
 * A blob's bytes as they lie in a work tree, piece by piece: they may be many times as many. What can't be applied is
 * left out.
 *
 * @param oid the blob's id, for `$Id$`
 */
export function toWorkTree(data: Buffer, oid: string, conversion: Conversion): Iterable<Buffer> {
  const encoding = conversion.encoding === null ? 'utf8' : knownEncoding(conversion.encoding)
  const streamed = encoding === 'utf8' && !(conversion.text === 'auto' && conversion.eol !== 'lf')
  const pieces = () => (conversion.ident ? expandIdent(data, oid, streamed) : [data])
  const lines = getsCrlf(pieces, conversion) ? withCrlf(pieces()) : pieces()
  const leave = encoding === null || encoding === 'utf8' || data.length === 0 || !isEncodable(data)
  return leave ? lines : encode(lines, encoding)
}

/** git's safe rule: what only looks like text, and holds any CR already, keeps its line ends. */
function getsCrlf(pieces: () => Iterable<Buffer>, { text, eol }: Conversion): boolean {
  if (text === 'no' || eol !== 'crlf') return false
  if (text === 'yes') return true
  const stats = statsOf(pieces())
  return stats.crlf === 0 && !isBinary(stats)
}

function* withCrlf(pieces: Iterable<Buffer>): Generator<Buffer> {
  let last = 0
  for (const piece of pieces) {
    for (let start = 0; start < piece.length; start += CHUNK) {
      const chunk = piece.subarray(start, start + CHUNK)
      const result = Buffer.allocUnsafe(chunk.length * 2)
      let filled = 0
      for (const byte of chunk) {
        if (byte === LF && last !== CR) result[filled++] = CR
        result[filled++] = byte
        last = byte
      }
      yield result.subarray(0, filled)
    }
  }
}

export interface GitSide {
  readonly data: Buffer
  /** What would have to be done as well, and is not: the attributes by name and value. */
  readonly notApplied: readonly string[]
}

/**
 * A work tree file's bytes as `git add` stores them.
 *
 * @param indexed the blob that git's index has at that path, null for none; asked for only when it matters
 */
export function toGit(data: Buffer, conversion: Conversion, indexed: () => Buffer | null): GitSide {
  const notApplied: string[] = []
  if (conversion.filter) notApplied.push(`filter=${conversion.filter}`)
  const text = conversion.encoding === null ? data : decoded(data, conversion.encoding)
  if (text === null) notApplied.push(`working-tree-encoding=${conversion.encoding}`)
  const plain = text ?? data
  const lines = losesCrlf(plain, conversion, indexed) ? withoutCrlf(plain) : plain
  return { data: conversion.ident ? collapseIdent(lines) : lines, notApplied }
}

function decoded(data: Buffer, name: string): Buffer | null {
  const encoding = knownEncoding(name)
  if (encoding === null || encoding === 'utf8' || data.length === 0) return encoding === null ? null : data
  return decode(data, encoding)
}

/** git's safe rule, the other way: what only looks like text, and was committed with CRLF, keeps it. */
function losesCrlf(data: Buffer, { text }: Conversion, indexed: () => Buffer | null): boolean {
  if (text === 'no' || !data.includes('\r\n')) return false
  if (text === 'yes') return true
  if (isBinary(statsOf([data]))) return false
  const there = indexed()
  if (!there?.includes('\r\n')) return true
  return isBinary(statsOf([there]))
}

function withoutCrlf(data: Buffer): Buffer {
  const result = Buffer.allocUnsafe(data.length)
  let filled = 0
  for (let at = 0; at < data.length; at += 1) {
    const byte = data[at] ?? 0
    if (byte !== CR || data[at + 1] !== LF) result[filled++] = byte
  }
  return result.subarray(0, filled)
}

interface Stats {
  nul: number
  loneCr: number
  crlf: number
  printable: number
  unprintable: number
}

/** Counts by which git tells text from what is none. A line end never lies across two pieces. */
function statsOf(pieces: Iterable<Buffer>): Stats {
  const stats: Stats = { nul: 0, loneCr: 0, crlf: 0, printable: 0, unprintable: 0 }
  let last = 0
  for (const piece of pieces) {
    count(piece, stats)
    last = piece.at(-1) ?? last
  }
  // An end-of-file mark of old does not count.
  if (last === CTRL_Z) stats.unprintable -= 1
  return stats
}

const [BACKSPACE, TAB, FORM_FEED, ESCAPE, DELETE, SPACE] = [0x08, 0x09, 0x0c, 0x1b, 0x7f, 0x20]

function count(data: Buffer, stats: Stats): void {
  for (let at = 0; at < data.length; at += 1) {
    const byte = data[at] ?? 0
    if (byte === CR) {
      if (data[at + 1] === LF) stats.crlf += 1
      else stats.loneCr += 1
    } else if (byte >= SPACE && byte !== DELETE) stats.printable += 1
    else if (byte === TAB || byte === BACKSPACE || byte === ESCAPE || byte === FORM_FEED) stats.printable += 1
    else if (byte !== LF) {
      stats.unprintable += 1
      if (byte === 0) stats.nul += 1
    }
  }
}

function isBinary({ nul, loneCr, printable, unprintable }: Stats): boolean {
  return nul > 0 || loneCr > 0 || Math.floor(printable / 128) < unprintable
}
