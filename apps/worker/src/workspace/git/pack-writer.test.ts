import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRepository, git } from '@agirunner/test-kit'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { closureOf } from './closure.js'
import { ObjectStore } from './objects.js'
import { indexPack } from './pack-index.js'
import { writePack } from './pack-writer.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'agirunner-writer-'))
})
afterAll(() => rm(folder, { recursive: true }))

// Deltas whose bases stay behind, deltas whose bases come along, deltas by id, objects in several packs, loose ones.
test.each<[string, string[][]]>([
  ['one pack with deltas by place', [['repack', '-adfq', '--depth=50', '--window=50']]],
  [
    'one pack with deltas by id',
    [['-c', 'repack.useDeltaBaseOffset=false', 'repack', '-adfq', '--depth=50', '--window=50']],
  ],
  ['loose objects', []],
])('the closure of any commit is a whole repository: %s', async (name, commands) => {
  const lines = Array.from({ length: 800 }, (_, line) => `line ${line}\n`)
  const repository = await createRepository({
    root: folder,
    name: name.replaceAll(' ', '-'),
    build: async builder => {
      for (let round = 0; round < 12; round += 1) {
        lines[round * 9] = `changed in round ${round}\n`
        await builder.write({ large: lines.join(''), [`deep/er/${round}`]: `${round}\n`, same: 'same\n' })
        await builder.commit(`round ${round}`)
        await builder.tag(`t${round}`, `tag ${round}`)
      }
    },
  })
  for (const command of commands) await repository.git(command)
  const store = new ObjectStore(repository.path, 2 ** 24)
  for (const depth of [1, 3]) {
    for (const at of [0, 5, 11]) {
      const commit = repository.commits[at] ?? ''
      const want = await repository.git(['rev-parse', `t${at}`])
      const last = repository.commits[Math.max(0, at - depth + 1)] ?? ''
      const oids = closureOf(store, want, commit, new Set(at - depth + 1 > 0 ? [last] : []))
      const expected = await repository.git([
        'rev-list',
        '--objects',
        '--no-object-names',
        `-${depth}`,
        commit,
      ])
      expect([...oids].toSorted()).toEqual([want, ...expected.split('\n')].toSorted())

      const path = join(folder, 'new.pack')
      writePack(store, oids, path)
      const options = { maxObjectBytes: 2 ** 24, progress: () => undefined, known: () => null }
      const target = join(folder, 'target.git')
      await git(['init', '-q', '--bare', target])
      const pack = `objects/pack/pack-${indexPack(path, options)}`
      for (const ending of ['pack', 'idx'])
        await copyFile(path.replace(/pack$/, ending), join(target, `${pack}.${ending}`))
      await git(['index-pack', '-o', join(folder, 'theirs.idx'), path])
      await git(['verify-pack', join(target, `${pack}.idx`)])
      expect(await git(['cat-file', '-p', `${commit}:large`], { cwd: target })).toContain('line 799')
      await rm(target, { recursive: true })
      for (const file of (await readdir(folder)).filter(one => /^(new|theirs)\./.test(one)))
        await rm(join(folder, file))
    }
  }
  store.close()
})
