import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRepository, git, type Repository } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { kindOf } from './address.js'
import { applyDelta, EMPTY_TREE, hashObject, ObjectStore } from './objects.js'
import { parseTree, serializeTree } from './tree.js'

test.each([
  ['8.8.8.8', 'public'],
  ['1.1.1.1', 'public'],
  ['2606:4700::1111', 'public'],
  ['127.0.0.1', 'private'],
  ['0.0.0.0', 'private'],
  ['10.0.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['172.32.0.0', 'public'],
  ['192.168.1.1', 'private'],
  ['100.64.0.1', 'private'],
  ['169.254.1.1', 'private'],
  ['224.0.0.1', 'private'],
  ['255.255.255.255', 'private'],
  ['::', 'private'],
  ['::1', 'private'],
  ['fe80::1', 'private'],
  ['fd00::1', 'private'],
  ['ff02::1', 'private'],
  ['::ffff:10.0.0.1', 'private'],
  ['::ffff:a00:1', 'private'],
  ['0:0:0:0:0:ffff:7f00:1', 'private'],
  ['::ffff:8.8.8.8', 'public'],
  ['64:ff9b::a00:1', 'private'],
  ['2002:a00:1::', 'private'],
  ['169.254.169.254', 'metadata'],
  ['::ffff:169.254.169.254', 'metadata'],
  ['fd00:ec2::254', 'metadata'],
  ['100.100.100.200', 'metadata'],
  ['no address', 'private'],
])('%s is %s', (address, kind) => expect(kindOf(address)).toBe(kind))

describe('the object store', () => {
  let root: string
  let repository: Repository

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'agirunner-objects-'))
    repository = await createRepository({
      root,
      name: 'packed',
      build: async builder => {
        // Versions of one large file, so that the pack holds chains of deltas.
        for (let version = 0; version < 12; version += 1) {
          const lines = Array.from(
            { length: 3000 },
            (_, index) => `line ${index} ${index % 12 < version ? version : ''}\n`,
          )
          await builder.write({ 'big.txt': lines.join(''), [`f${version}`]: 'x'.repeat(version) })
          await builder.commit(`version ${version}`)
        }
        await builder.tag('tagged', 'a tag')
      },
    })
  })
  afterAll(() => rm(root, { recursive: true, force: true }))

  async function everyObject(): Promise<[string, string][]> {
    const list = await repository.git([
      'cat-file',
      '--batch-all-objects',
      '--batch-check=%(objectname) %(objecttype)',
    ])
    return list.split('\n').map(line => line.split(' ') as [string, string])
  }

  test.each([
    ['loose', []],
    ['packed', ['repack', '-adfq', '--depth=50', '--window=50']],
    [
      'packed with deltas by name',
      ['-c', 'repack.useDeltaBaseOffset=false', 'repack', '-adfq', '--depth=50', '--window=50'],
    ],
  ])('reads every object that git does, %s', async (_name, repack) => {
    if (repack.length > 0) await repository.git(repack)
    const store = new ObjectStore(repository.path, 2 ** 30)
    for (const [oid, type] of await everyObject()) {
      const object = store.read(oid)
      expect(object.type).toBe(type)
      expect(hashObject(object.type, object.data)).toBe(oid)
      if (object.type === 'tree') expect(serializeTree(parseTree(object.data))).toEqual(object.data)
    }
    expect(store.has('1'.repeat(40))).toBe(false)
    expect(() => store.read('1'.repeat(40))).toThrow('missing')
    expect(store.read(EMPTY_TREE).data).toHaveLength(0)
    store.close()
  })

  test('refuses what is larger than allowed', async () => {
    await repository.git(['repack', '-adq'])
    const big = await git(['rev-parse', 'HEAD:big.txt'], { cwd: repository.path })
    const store = new ObjectStore(repository.path, 1000)
    expect(() => store.read(big)).toThrow('too large')
    store.close()
  })

  test.each([
    ['for another base', [4, 1, 0x90, 1]],
    ['that reaches beyond its base', [3, 5, 0x90, 5]],
    ['that reaches beyond its result', [3, 1, 0x90, 3]],
    ['that is too short', [3, 9, 0x90, 3]],
    ['with a reserved instruction', [3, 1, 0]],
    ['that is cut off', [3, 3, 3, 65]],
  ])('refuses a delta %s', (_name, bytes) => {
    expect(() => applyDelta(Buffer.from('abc'), Buffer.from(bytes), 1000)).toThrow()
  })

  test('refuses a delta that makes a bomb', () => {
    const huge = Buffer.from([3, 0xff, 0xff, 0xff, 0xff, 0x7f])
    expect(() => applyDelta(Buffer.from('abc'), huge, 1000)).toThrow('too large')
  })
})
