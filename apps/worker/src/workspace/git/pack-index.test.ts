import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import { createRepository, git } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { ObjectError, ObjectSizeError, ObjectStore } from './objects.js'
import { indexPack } from './pack-index.js'

const LIMITS = { maxObjectBytes: 2 ** 24, progress: () => undefined, known: () => null }

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agirunner-pack-'))
})
afterAll(() => rm(folder, { recursive: true }))

let counter = 0
async function stored(pack: Uint8Array): Promise<string> {
  counter += 1
  const path = join(folder, `${counter}.pack`)
  await writeFile(path, pack)
  return path
}

/** A pack of hand-made entries, with a right trailer. */
function packOf(entries: readonly Buffer[], count = entries.length): Buffer {
  const head = Buffer.alloc(12)
  head.write('PACK')
  head.writeUInt32BE(2, 4)
  head.writeUInt32BE(count, 8)
  const body = Buffer.concat([head, ...entries])
  return Buffer.concat([body, createHash('sha1').update(body).digest()])
}

function entry(kind: number, size: number, data: Uint8Array, base: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = [(kind << 4) | (size & 15)]
  for (let rest = Math.floor(size / 16); rest > 0; rest = Math.floor(rest / 128)) {
    head[head.length - 1] = (head.at(-1) ?? 0) | 0x80
    head.push(rest & 0x7f)
  }
  return Buffer.concat([Buffer.from(head), base, deflateSync(data)])
}

const BLOB = 3
const REF_DELTA = 7

describe('real packs', () => {
  test.each([
    ['chains of deltas by place', []],
    ['deltas by id', ['-c', 'repack.useDeltaBaseOffset=false']],
    ['no deltas at all', ['-c', 'pack.depth=0']],
  ])('%s: the index is the one that git makes, byte for byte', async (_name, options) => {
    const lines = Array.from({ length: 3000 }, (_, line) => `line ${line} of a file\n`)
    const repository = await createRepository({
      root: folder,
      name: `r${counter++}`,
      build: async builder => {
        for (let round = 0; round < 40; round += 1) {
          lines[round * 50] = `changed in round ${round}\n`
          await builder.write({ large: lines.join(''), [`small-${round}`]: `${round}\n`, empty: '' })
          await builder.commit(`round ${round}`)
          await builder.tag(`t${round}`, `tag ${round}`)
        }
      },
    })
    await repository.git([...options, 'repack', '-adfq', '--depth=50', '--window=20'])
    const packs = join(repository.path, 'objects/pack')
    const [name = ''] = (await readdir(packs)).filter(file => file.endsWith('.pack'))
    const path = await stored(await readFile(join(packs, name)))
    expect(`pack-${indexPack(path, LIMITS)}.pack`).toBe(name)
    const [ours, theirs] = await Promise.all(
      [path, join(packs, name)].map(file => readFile(file.replace(/pack$/, 'idx'))),
    )
    expect(ours).toEqual(theirs)
  })
})

test('a thin pack is made whole with the bases that we have, so that git reads it', async () => {
  const lines = Array.from({ length: 500 }, (_, line) => `line ${line}\n`)
  const repository = await createRepository({
    root: folder,
    name: 'thin',
    build: async builder => {
      await builder.write({ large: lines.join('') })
      await builder.commit('one')
      await builder.write({ large: `${lines.join('')}more\n` })
      await builder.commit('two')
    },
  })
  const [one = '', two = ''] = repository.commits
  const thin = spawnSync('git', ['pack-objects', '--revs', '--thin', '--stdout', '-q'], {
    cwd: repository.path,
    input: `${two}\n^${one}\n`,
  })
  const alone = await stored(thin.stdout)
  expect(() => indexPack(alone, LIMITS)).toThrow(ObjectError)
  const store = new ObjectStore(repository.path, 2 ** 24)
  const path = await stored(thin.stdout)
  const id = indexPack(path, { ...LIMITS, known: oid => store.read(oid) })
  const target = join(folder, 'thin-target.git')
  await git(['init', '-q', '--bare', target])
  for (const ending of ['pack', 'idx'])
    await copyFile(path.replace(/pack$/, ending), join(target, `objects/pack/pack-${id}.${ending}`))
  await git(['verify-pack', join(target, `objects/pack/pack-${id}.idx`)])
  expect(await git(['cat-file', 'blob', `${two}:large`], { cwd: target })).toBe(`${lines.join('')}more`)
})

describe('a pack', () => {
  const hello = Buffer.from('hello')

  test('of one object is read', async () => {
    const path = await stored(packOf([entry(BLOB, 5, hello)]))
    indexPack(path, LIMITS)
    expect(await git(['show-index'], { input: await readFile(path.replace(/pack$/, 'idx')) })).toContain(
      await git(['hash-object', '--stdin'], { input: hello }),
    )
  })

  test.each<[string, () => Buffer]>([
    ['that is empty', () => Buffer.alloc(0)],
    ['that breaks off', () => packOf([entry(BLOB, 5, hello)]).subarray(0, 30)],
    [
      'with another trailer',
      () => Buffer.concat([packOf([entry(BLOB, 5, hello)]).subarray(0, -1), Buffer.from('x')]),
    ],
    ['that is no pack', () => packOf([]).fill('x', 0, 4)],
    ['that promises more objects', () => packOf([entry(BLOB, 5, hello)], 2)],
    ['that holds more than it says', () => packOf([entry(BLOB, 5, hello), Buffer.from('more')], 1)],
    ['whose object is longer than it says', () => packOf([entry(BLOB, 4, hello)])],
    ['whose object is shorter than it says', () => packOf([entry(BLOB, 6, hello)])],
    ['with an object of no known type', () => packOf([entry(5, 5, hello)])],
    ['with a delta without base', () => packOf([entry(REF_DELTA, 5, hello, Buffer.alloc(20, 7))])],
  ])('%s is refused', async (_name, make) => {
    const pack = make()
    // What was filled or cut needs its own trailer again, or the trailer alone would be what is found wrong.
    const body = pack.subarray(0, -20)
    const whole = _name.includes('no pack')
      ? Buffer.concat([body, createHash('sha1').update(body).digest()])
      : pack
    const path = await stored(whole)
    expect(() => indexPack(path, LIMITS)).toThrow(ObjectError)
  })

  test('with an object larger than may be is refused before it is unfolded', async () => {
    const zeros = Buffer.alloc(2 ** 25)
    const path = await stored(packOf([entry(BLOB, zeros.length, zeros)]))
    expect(() => indexPack(path, LIMITS)).toThrow(ObjectSizeError)
    indexPack(path, { ...LIMITS, maxObjectBytes: zeros.length })
  })
})
