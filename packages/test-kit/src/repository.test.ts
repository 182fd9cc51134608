import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { createRepository, manyFiles, type RepositoryBuilder } from './repository.js'

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'agirunner-test-kit-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function history(repository: RepositoryBuilder): Promise<void> {
  await repository.write({
    'run.sh': { content: 'true\n', mode: 0o755 },
    link: { symlink: 'run.sh' },
    'deep/er/binary': Uint8Array.of(0, 255, 10),
  })
  await repository.commit('files')
  await repository.tag('v1')
  await repository.branch('feature')
  await repository.remove('link')
  await repository.write({ 'deep/er': 'now a file\n' })
  await repository.commit('changes')
  await repository.tag('v2', 'the second')
  await repository.checkout('main')
}

describe('createRepository', () => {
  it('makes modes, links, bytes, branches and tags', async () => {
    const repository = await createRepository({ root, name: 'demo', build: history })
    const [first, second] = repository.commits
    expect(await repository.git(['ls-tree', '-r', '--format=%(objectmode) %(path)', 'main'])).toBe(
      '100644 deep/er/binary\n120000 link\n100755 run.sh',
    )
    expect(await repository.git(['ls-tree', '-r', '--format=%(objectmode) %(path)', 'feature'])).toBe(
      '100644 deep/er\n100755 run.sh',
    )
    expect(await repository.git(['rev-parse', 'v1', 'v2^{commit}', 'HEAD'])).toBe(
      [first, second, first].join('\n'),
    )
    expect(await repository.git(['cat-file', '-t', 'v2'])).toBe('tag')
    await repository.git(['fsck', '--strict'])
  })

  it('makes the same ids every time', async () => {
    const one = await createRepository({ root, name: 'one', build: history })
    const two = await createRepository({ root, name: 'two', build: history })
    expect(one.commits).toEqual(two.commits)
  })

  it('goes on with a history', async () => {
    const repository = await createRepository({ root, name: 'demo', files: manyFiles(150) })
    const [first] = repository.commits
    await repository.change(async more => {
      await more.remove('folder-1')
      await more.commit('second')
    })
    expect(await repository.git(['diff', '--shortstat', `${first}`, repository.head])).toMatch(
      /^ 50 files changed/,
    )
    expect(await repository.git(['log', '--format=%s %ct', 'main'])).toBe(
      'second 1700000060\nfirst 1700000000',
    )
  })
})
