import { describe, expect, it } from '@jest/globals'
import { Selection } from './selection.js'

describe('a selection of artifacts', () => {
  it.each([
    [['repo/dist/**'], 'repo/dist/a/b.txt', true],
    [['repo/dist/**'], 'repo/dist/.hidden', true],
    [['repo/dist/**'], 'repo/other', false],
    [['repo/dist'], 'repo/dist/a/b.txt', true],
    [['repo/dist/'], 'repo/dist/a', true],
    [['./repo/a.txt'], 'repo/a.txt', true],
    [['repo/*.log'], 'repo/sub/a.log', false],
    [['**/*.log'], 'repo/sub/a.log', true],
    [['repo/{a,b}.txt', 'output/x'], 'repo/b.txt', true],
    [['repo/[ab].txt'], 'repo/c.txt', false],
    [['!repo/a'], 'repo/b', false],
    [['repo/**'], 'repo/new\nline/a', true],
    [['repo/*.txt'], 'repo/new\nline.txt', true],
    [[], 'repo/a', false],
  ])('of %j has %s: %s', (globs, path, expected) => {
    expect(new Selection(globs).has(path)).toBe(expected)
  })

  it('looks only where something can be', () => {
    expect(new Selection(['repo/dist/**', 'repo/dist/sub/*.txt', 'output/a.txt']).bases.toSorted()).toEqual([
      'output/a.txt',
      'repo/dist',
    ])
    expect(new Selection(['**/*.xml', 'repo/x']).bases).toEqual([''])
  })
})
