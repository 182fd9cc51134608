import { git, type HostileKind } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { GitLimits } from '../workspace/index.js'
import { contentOf, HostileFixture } from './hostile-fixture.js'

let hostile: HostileFixture
beforeAll(async () => {
  hostile = await HostileFixture.start()
})
afterAll(() => hostile.close())

const MIB = 2 ** 20
const EVIL = 'evil\n'

describe('a pack', () => {
  test.each<[HostileKind, string, string]>([
    ['error-for-a-pack', 'workspace.remote_broken', 'the disk is full'],
    ['error-in-a-pack', 'workspace.remote_broken', 'out of memory'],
    ['refusal-of-a-commit', 'workspace.commit_not_found', 'has no commit'],
    ['truncated-pack', 'workspace.remote_broken', 'an object is broken'],
    ['pack-of-12-bytes', 'workspace.remote_broken', 'does not answer like a git server'],
    ['delta-before-the-pack', 'workspace.remote_broken', 'a delta points outside its pack'],
    ['zip-bomb-that-lies', 'workspace.remote_broken', 'an object is broken'],
    ['pack-of-no-pack', 'workspace.remote_broken', 'does not answer like a git server'],
    ['pack-of-too-few', 'workspace.remote_broken', 'does not answer like a git server'],
    ['pack-of-too-many', 'workspace.remote_broken', 'does not answer like a git server'],
    ['wrong-trailer', 'workspace.remote_broken', 'not what its trailer says'],
    ['wrong-content', 'workspace.remote_broken', 'does not answer like a git server'],
    ['lengths-in-a-pack', 'workspace.remote_broken', '"0003" where the length'],
    ['endless-pack', 'workspace.too_large', 'more than the 8388608 bytes'],
    ['endless-progress', 'workspace.too_large', 'more than the 8388608 bytes'],
    ['object-of-4-gib', 'workspace.too_large', 'an object is too large'],
  ])('with %s is told as such', async (kind, code, message) => {
    expect((await hostile.refused(kind)).failure).toMatchObject({
      code,
      message: expect.stringContaining(message),
    })
  })

  test.each<[HostileKind, string]>([
    ['chain-of-deltas', 'a chain of deltas is too long'],
    ['missing-tree', 'is missing'],
    ['missing-blob', 'is missing'],
    ['other-blob', 'is missing'],
    ['tree-that-is-a-blob', 'is a blob, not a tree'],
    ['blob-that-is-a-tree', 'is a tree, not a blob'],
  ])('that is whole, of a commit that is not, is told as such: %s', async (kind, message) => {
    expect((await hostile.refused(kind, { cached: true })).failure).toMatchObject({
      code: 'workspace.remote_broken',
      message: expect.stringContaining(message),
    })
  })

  test('that is whole and empty has no commit', async () => {
    expect((await hostile.refused('pack-without-objects', { cached: true })).failure).toMatchObject({
      code: 'workspace.commit_not_found',
    })
  })

  test('with a chain of tags ends at the second', async () => {
    expect((await hostile.refused('chain-of-tags', { ref: 'chain', cached: true })).failure).toMatchObject({
      code: 'workspace.commit_not_found',
      message: expect.stringContaining('is a tag of a tag'),
    })
  })
})

describe('a bomb', () => {
  test.each<HostileKind>(['zip-bomb', 'delta-bomb', 'wide-delta-bomb'])(
    'costs the child its life when it holds too much: %s',
    async kind => {
      const { failure, children } = await hostile.refused(kind, { limits: { maxMemoryBytes: 300 * MIB } })
      expect(failure).toMatchObject({
        code: 'workspace.too_large',
        message: expect.stringContaining('more memory than the 300 MiB allowed'),
      })
      expect(children.before.every(pid => children.after.includes(pid))).toBe(false)
    },
  )

  test('that may be held is no bomb', async () => {
    await hostile.made('zip-bomb', { limits: { maxMemoryBytes: 4096 * MIB } }, async repo =>
      expect(await contentOf(repo)).toEqual({ a: 'a\n' }),
    )
  })

  test.each<[HostileKind, Partial<GitLimits>, string]>([
    ['tree-that-doubles', { maxFiles: 3000 }, 'more than 3000 files'],
    ['names-odd', { maxFiles: 3 }, 'more than 3 files'],
    ['names-odd', { maxTreeBytes: 10 }, 'larger than 10 bytes'],
  ])('of files is stopped by what may be written: %s, %j', async (kind, limits, message) => {
    expect((await hostile.refused(kind, { limits, cached: true })).failure).toMatchObject({
      code: 'workspace.too_large',
      message: expect.stringContaining(message),
    })
  })
})

describe('a tree', () => {
  test.each<[HostileKind, string]>([
    ['name-dots', 'is no name'],
    ['name-dot', 'is no name'],
    ['name-empty', 'is no name'],
    ['name-git', 'stands for .git'],
    ['name-git-in-capitals', 'stands for .git'],
    ['name-git-short', 'stands for .git'],
    ['name-git-and-blank', 'stands for .git'],
    ['name-git-and-dot', 'stands for .git'],
    ['name-git-stream', 'stands for .git'],
    ['name-git-ignorable', 'stands for .git'],
    ['name-git-ignorable-end', 'stands for .git'],
    ['name-git-below-backslash', 'stands for .git'],
    ['name-slash', 'holds a slash'],
    ['name-absolute', 'holds a slash'],
    ['name-of-256-bytes', 'is longer than 255 bytes'],
    ['name-of-100000-bytes', 'is longer than 255 bytes'],
    ['names-twice', 'is there twice'],
    ['file-and-folder', 'is there twice'],
    ['link-and-path-through-it', 'is there twice'],
    ['link-empty', 'is no valid symlink'],
    ['link-with-nul', 'is no valid symlink'],
    ['link-of-1-mib', 'is no valid symlink'],
    ['gitmodules-link', 'is a symlink that git would read'],
    ['tree-of-10000-levels', 'is longer than 3900 bytes'],
  ])('with %s is refused', async (kind, message) => {
    const { failure } = await hostile.refused(kind, { cached: true })
    expect(failure).toMatchObject({
      code: 'workspace.unsafe_tree',
      message: expect.stringContaining(message),
    })
    // It goes to Redis, the log and the board.
    expect(failure?.message.length).toBeLessThan(2000)
  })

  test.each<HostileKind>([
    'name-nul',
    'mode-of-a-device',
    'mode-of-no-number',
    'tree-of-garbage',
    'tree-cut-off',
  ])('that is none is the fault of the server: %s', async kind => {
    expect((await hostile.refused(kind, { cached: true })).failure).toMatchObject({
      code: 'workspace.remote_broken',
    })
  })

  test.each<[HostileKind, Record<string, string>]>([
    [
      'names-odd',
      {
        'a\nb': EVIL,
        'a\\b': EVIL,
        '\x1b[31m': EVIL,
        [Buffer.from('\u202eexe.txt').toString('latin1')]: EVIL,
        '\xff\xfe': EVIL,
        ['x'.repeat(255)]: EVIL,
      },
    ],
    ['link-absolute', { passwd: '-> /etc/passwd' }],
    ['link-escaping', { up: '-> ../../../../../../etc/passwd' }],
    ['mode-setuid', { suid: EVIL }],
    ['submodule', { a: EVIL, 'sub/': '' }],
  ])('with what git allows is there as it is: %s', async (kind, content) => {
    await hostile.made(kind, {}, async repo => {
      expect(await contentOf(repo)).toEqual(content)
      expect(await git(['diff-files', '--name-only'], { cwd: repo })).toBe('')
      expect(await git(['ls-files', '--stage'], { cwd: repo })).not.toMatch(/^104/m)
    })
  })
})
