import { randomBytes } from 'node:crypto'
import { type RawObject, rawBlob, rawCommit, rawTag, rawTree } from './objects.js'
import {
  appendingDelta,
  deltaEntry,
  packEntry,
  packHeader,
  packOf,
  repeatingDelta,
  zerosEntry,
} from './pack.js'
import { BAND, bandLine, bandLines, FLUSH, pktLine } from './pkt-line.js'
import { HONEST, negotiation, refsAt } from './protocol.js'
import { type Answer, pour, type Script } from './script.js'

const MIB = 2 ** 20
/** What the bombs unfold to. */
const BOMB_BYTES = 600 * MIB

const honestPack = packOf(HONEST.entries)

/** The honest commit, and a pack that holds more than it needs. */
const withMore = (...more: readonly Buffer[]): Script => ({
  offer: { pack: packOf([...HONEST.entries, ...more]) },
})

const withPack = (pack: Buffer): Script => ({ offer: { pack } })

/** A commit and whatever else, complete or not. */
const withObjects = (commit: RawObject, ...others: readonly RawObject[]): Script => ({
  offer: { refs: refsAt(commit.oid), pack: packOf([commit, ...others].map(packEntry)) },
})

/** What comes after the negotiation. */
const afterwards =
  (pieces: () => Iterable<Uint8Array>): Answer =>
  ({ response, body }) => {
    response.write(negotiation(body))
    return pour(response, pieces())
  }

/** Whole, valid objects, more than can be counted. */
function* endlessPack(): Generator<Buffer> {
  yield* bandLines(packHeader(0xffffffff))
  const entries = packEntry(rawBlob(randomBytes(60_000)))
  for (;;) yield* bandLines(entries)
}

function* endlessProgress(): Generator<Buffer> {
  const line = bandLine(BAND.progress, 'remote: Counting objects: 1\r'.repeat(1000))
  for (;;) yield line
}

/** `levels` deltas, each on the one before and `times` as large. */
function deltaBomb(levels: number, times: number): Script {
  const base = packEntry(rawBlob(Buffer.alloc(65_536)))
  const deltas: Buffer[] = []
  for (let level = 0, size = 65_536, back = base.length; level < levels; level += 1, size *= times) {
    const delta = deltaEntry(back, repeatingDelta(size, times))
    deltas.push(delta)
    back = delta.length
  }
  return withMore(base, ...deltas)
}

/** Many deltas on one base, each of `times` its MiB. */
function wideDeltaBomb(count: number, times: number): Script {
  const base = packEntry(rawBlob(Buffer.alloc(MIB)))
  let distance = base.length
  const deltas = Array.from({ length: count }, () => {
    const delta = deltaEntry(distance, repeatingDelta(MIB, times))
    distance += delta.length
    return delta
  })
  return withMore(base, ...deltas)
}

/** A file that is the last of `length` deltas, each of which adds a byte. */
function deltaChain(length: number): Script {
  const first = rawBlob('x')
  const last = rawBlob('x'.repeat(length + 1))
  const tree = rawTree([{ mode: '100644', name: 'a', oid: last.oid }])
  const commit = rawCommit(tree.oid)
  const entries = [packEntry(commit), packEntry(tree), packEntry(first)]
  for (let size = 1; size <= length; size += 1) {
    entries.push(deltaEntry(entries.at(-1)?.length ?? 0, appendingDelta(size, Buffer.from('x'))))
  }
  return { offer: { refs: refsAt(commit.oid), pack: packOf(entries) } }
}

function tagChain(length: number): Script {
  const tags: RawObject[] = []
  for (let index = 0; index < length; index += 1)
    tags.push(rawTag(tags.at(-1) ?? HONEST.commit, `t-${index}`))
  const [last] = tags.slice(-1)
  const [middle] = tags.slice(length / 2)
  const named = { name: 'refs/tags/chain', oid: last?.oid ?? '', peeled: middle?.oid ?? '' }
  return {
    offer: {
      refs: [...refsAt(HONEST.commit.oid), named],
      pack: packOf([...HONEST.entries, ...tags.map(packEntry)]),
    },
  }
}

function brokenAt(pack: Buffer, at: number): Buffer {
  const broken = Buffer.from(pack)
  broken[at] = (broken[at] ?? 0) ^ 0xff
  return broken
}

const { blob, tree, commit, entries } = HONEST
const otherBlob = rawBlob('b\n')

/** What is wrong with packs, with the lines that carry them, and with what the objects name. */
export const PACK_SCRIPTS = {
  'error-for-a-pack': { fetch: ({ response }) => response.end(pktLine('ERR the disk is full\n')) },
  'error-in-a-pack': {
    fetch: afterwards(() => [
      ...bandLines(honestPack.subarray(0, 40)),
      bandLine(BAND.error, 'out of memory'),
    ]),
  },
  'refusal-of-a-commit': {
    fetch: ({ response }) => response.end(pktLine(`ERR upload-pack: not our ref ${commit.oid}\n`)),
  },
  'truncated-pack': withPack(honestPack.subarray(0, honestPack.length - 30)),
  'pack-of-12-bytes': withPack(honestPack.subarray(0, 12)),
  'pack-without-objects': withPack(packOf([])),
  'pack-of-no-pack': withPack(Buffer.from('GIF89a is no pack'.repeat(10))),
  'pack-of-too-few': withPack(packOf(entries, 4)),
  'pack-of-too-many': withPack(packOf(entries, 2)),
  'wrong-trailer': withPack(brokenAt(honestPack, honestPack.length - 1)),
  'wrong-content': withPack(packOf([...entries.slice(0, 2), brokenAt(entries[2] ?? blob.data, 6)])),
  'lengths-in-a-pack': { fetch: afterwards(() => [pktLine('\x01PACK', '0003'), FLUSH]) },
  'endless-pack': { fetch: afterwards(endlessPack) },
  'endless-progress': { fetch: afterwards(endlessProgress) },
  'zip-bomb': () => withMore(zerosEntry(BOMB_BYTES)),
  'zip-bomb-that-lies': () => withMore(zerosEntry(BOMB_BYTES, 10)),
  'object-of-4-gib': () => withMore(zerosEntry(MIB, 4096 * MIB)),
  'delta-bomb': () => deltaBomb(4, 16),
  'wide-delta-bomb': () => wideDeltaBomb(500, 128),
  'chain-of-deltas': () => deltaChain(6000),
  'delta-before-the-pack': () => withMore(deltaEntry(100_000, repeatingDelta(1, 1))),
  'missing-tree': () => withObjects(commit),
  'missing-blob': () => withObjects(commit, tree),
  'other-blob': () => withObjects(commit, tree, otherBlob),
  'tree-that-is-a-blob': () => {
    const wrong = rawCommit(blob.oid)
    return withObjects(wrong, blob)
  },
  'blob-that-is-a-tree': () => {
    const wrong = rawTree([{ mode: '100644', name: 'a', oid: tree.oid }])
    return withObjects(rawCommit(wrong.oid), wrong, tree, blob)
  },
  'chain-of-tags': () => tagChain(2000),
} satisfies Record<string, Script | (() => Script)>
