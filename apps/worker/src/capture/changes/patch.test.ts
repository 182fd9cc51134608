import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { hashObject, type ObjectStore } from '../../workspace/git/objects.js'
import { quotePath, unquotePath } from '../../workspace/git/quote.js'
import { MODE, type Mode, serializeTree } from '../../workspace/git/tree.js'
import { type BaseTree, CommitTree, treeAfter } from './base-tree.js'
import { decodeLine, encodeLines } from './base85.js'
import type { Change, Entry } from './change.js'
import { IgnoreRules } from './ignore-rules.js'
import { findRenames, writePatch } from './patch.js'
import { treeOfPatch } from './verify.js'

/** Objects in memory, as a store would read them. */
class Objects {
  readonly #known = new Map<string, { type: string; data: Buffer }>()

  add(type: 'blob' | 'tree' | 'commit', data: Buffer): string {
    const oid = hashObject(type, data)
    this.#known.set(oid, { type, data })
    return oid
  }

  read(oid: string) {
    const object = this.#known.get(oid)
    if (!object) throw new Error(`object ${oid} is missing`)
    return object
  }
}

type Files = ReadonlyMap<string, { readonly mode: Mode; readonly data: Buffer }>

/** A base whose root holds these files; names hold no slash. */
function baseOf(files: Files): BaseTree {
  const objects = new Objects()
  const entries = [...files].map(([name, { mode, data }]) => ({ name, mode, oid: objects.add('blob', data) }))
  const tree = objects.add('tree', serializeTree(entries))
  const commit = objects.add('commit', Buffer.from(`tree ${tree}\n\nbase\n`))
  return new CommitTree(objects as unknown as ObjectStore, commit)
}

function changesBetween(base: BaseTree, now: Files): Change[] {
  const before = new Map(
    [...base.folder(base.root).values()].map(({ name, mode, oid }) => [name, { mode, oid }]),
  )
  const after = new Map<string, Entry>(
    [...now].map(([name, { mode, data }]) => [name, { mode, oid: hashObject('blob', data) }]),
  )
  return [...new Set([...before.keys(), ...after.keys()])]
    .map(path => ({ path, before: before.get(path) ?? null, after: after.get(path) ?? null }))
    .filter(change => JSON.stringify(change.before) !== JSON.stringify(change.after))
}

const line = fc.constantFrom(
  '',
  'a',
  'b',
  'c',
  '\r',
  'x y',
  '@@ -1 +1 @@',
  '--- a/x',
  '+++ b/x',
  'diff --git a/x b/x',
  '\\ No newline at end of file',
  '\xff',
)
const textFile = fc
  .tuple(fc.array(line, { maxLength: 30 }), fc.boolean())
  .map(([lines, ended]) => Buffer.from(lines.join('\n') + (ended ? '\n' : ''), 'latin1'))
const data = fc.oneof(
  { weight: 4, arbitrary: textFile },
  fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes)),
)
const file = fc.oneof(
  fc.record({ mode: fc.constantFrom<Mode>(MODE.file, MODE.executable), data }),
  fc.record({
    mode: fc.constant<Mode>(MODE.symlink),
    data: fc.constantFrom('a', '/etc/passwd', '../x').map(to => Buffer.from(to)),
  }),
)
const name = fc.constantFrom(
  'a',
  'b',
  'a b',
  ' lead',
  'trail ',
  '"q"',
  'tab\t',
  'nl\nx',
  '\xc3\xb6',
  '\xff',
  'b\\c',
  'a b/'.slice(0, 3),
)
const files = fc.array(fc.tuple(name, file), { maxLength: 8 }).map(pairs => new Map(pairs))

describe('a patch', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'agirunner-patch-'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  function patchOf(before: Files, now: Files) {
    const base = baseOf(before)
    const changes = changesBetween(base, now)
    const path = join(folder, 'patch')
    const contents = {
      before: (entry: Entry) => base.content(entry),
      after: (changed: string) => now.get(changed)?.data ?? Buffer.alloc(0),
    }
    const summary = writePatch(findRenames(changes), contents, path)
    const tree = treeAfter(base, new Map(changes.map(change => [change.path, change.after])))
    return { base, path, summary, tree }
  }

  test('gives the tree that it was made from, for any two trees', () => {
    fc.assert(
      fc.property(files, files, (before, now) => {
        const { base, path, tree } = patchOf(before, now)
        expect(treeOfPatch(path, base)).toBe(tree)
      }),
      { numRuns: 1000 },
    )
  })

  const file = (content: string, mode: Mode = MODE.file) => ({ mode, data: Buffer.from(content) })

  test.each<[string, (patch: string) => string]>([
    ['another line of context', patch => patch.replace('\n b\n', '\n B\n')],
    ['another line removed', patch => patch.replace('\n-c\n', '\n-C\n')],
    ['another line added', patch => patch.replace('\n+C\n', '\n+D\n')],
    ['another place', patch => patch.replace('@@ -1,5', '@@ -2,5')],
    ['another mode before', patch => patch.replace(' 100644\n', ' 100755\n')],
    ['another name', patch => patch.replaceAll('/x', '/y')],
    ['a cut', patch => patch.slice(0, -4)],
    ['a path that leads out', patch => patch.replaceAll('/x', '/../x')],
  ])('with %s is found out', (_what, change) => {
    const { base, path } = patchOf(
      new Map([['x', file('a\nb\nc\nd\ne\n')]]),
      new Map([['x', file('a\nb\nC\nd\ne\n')]]),
    )
    const patch = readFileSync(path, 'utf8')
    expect(change(patch)).not.toBe(patch)
    writeFileSync(path, change(patch))
    expect(() => treeOfPatch(path, base)).toThrow()
  })

  test('that lost a section gives another tree', () => {
    const { base, path, tree } = patchOf(
      new Map(),
      new Map([
        ['x', file('1\n')],
        ['y', file('2\n')],
      ]),
    )
    const patch = readFileSync(path, 'utf8')
    writeFileSync(path, patch.slice(0, patch.indexOf('diff --git a/y')))
    expect(treeOfPatch(path, base)).not.toBe(tree)
  })

  test('is what git writes, for a plain edit', () => {
    const { path, summary } = patchOf(new Map([['x', file('a\nb\n')]]), new Map([['x', file('a\nc')]]))
    expect(readFileSync(path, 'utf8')).toBe(
      [
        'diff --git a/x b/x',
        'index 422c2b7ab3b3c668038da977e4e93a5fc623169c..817f660e4423f7df2dfc7d4bff0e01b2092a8ce9 100644',
        '--- a/x',
        '+++ b/x',
        '@@ -1,2 +1,2 @@',
        ' a',
        '-b',
        '+c',
        '\\ No newline at end of file',
        '',
      ].join('\n'),
    )
    expect(summary).toMatchObject({ insertions: 1, deletions: 1 })
  })

  test('gives up on a diff that costs too much, and stays right', () => {
    const lines = (seed: number) =>
      Array.from({ length: 20_000 }, (_, index) => `${(index * seed) % 65_537}\n`).join('')
    const { base, path, tree } = patchOf(
      new Map([['x', file(lines(7919))]]),
      new Map([['x', file(lines(104_729))]]),
    )
    expect(treeOfPatch(path, base)).toBe(tree)
  }, 20_000)
})

test('base85 gives every byte back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
      const lines = encodeLines(Buffer.from(bytes)).split('\n').slice(0, -1)
      expect(Buffer.concat(lines.map(decodeLine))).toEqual(Buffer.from(bytes))
    }),
  )
  for (const bad of ['', 'A', 'A0000', 'A~~~~~', 'A0000 ', 'z00000']) expect(() => decodeLine(bad)).toThrow()
})

test('a quoted path gives every byte back', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 40 }), bytes => {
      const path = Buffer.from(bytes).toString('latin1')
      expect(unquotePath(quotePath(path)).path).toBe(path)
    }),
  )
})

test('ignore rules of folders follow git in precedence', () => {
  const rules = new IgnoreRules()
  rules.add('', '*.log\nout/\n!keep.log\n/top\n')
  rules.add('a/', '!x.log\n/top2\nb/c\n\\!bang\n#comment\nspace\\ \n')
  rules.add('a[1]/', 'y\n')
  const ignored = [
    'x.log',
    'a/y.log',
    'out/',
    'a/out/f',
    'top',
    'a/top2',
    'a/b/c',
    'a/!bang',
    'a/space ',
    'a[1]/y',
    'a[1]/d/y',
  ]
  const kept = [
    'keep.log',
    'a/x.log',
    'a/d/x.log',
    'a/top',
    'top2',
    'b/c',
    'a/d/b/c',
    '#comment',
    'a1/y',
    'y',
  ]
  expect(ignored.filter(path => !rules.ignores(path))).toEqual([])
  expect(kept.filter(path => rules.ignores(path))).toEqual([])
})
