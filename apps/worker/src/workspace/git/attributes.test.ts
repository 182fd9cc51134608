import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { git } from '@agirunner/test-kit'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { Attributes, type Conversion } from './attributes.js'
import { toGit, toWorkTree } from './conversion.js'
import { Effort, EffortError, Glob } from './glob.js'

const ATTRIBUTES = ['text', 'crlf', 'eol', 'ident', 'filter', 'working-tree-encoding']
const NAMES = ['a', 'b', 'c', 'ab', 'abc', 'a.txt', 'b.txt', 'x y', '*', 'a-b', '-', '\\', ']']

const PIECES = String.raw`a b c / * ** *** ? **/ /** .txt a.txt \* \a \ ! - [ab] [!a] [^b-c] [[:alpha:]] []a] [a-] [a [[:foo:]] [a-\c] [b "`
const piece = fc.constantFrom('x y', ...PIECES.split(' '))
const pattern = fc.array(piece, { minLength: 1, maxLength: 5 }).map(parts => parts.join(''))
const STATES =
  'text -text !text text=auto text=input text= -text=x te$xt crlf -crlf crlf=input eol=crlf eol=lf eol=x eol ident ' +
  '-ident filter=f -filter binary -binary one -one !one two working-tree-encoding=UTF-16 diff=x'
const states = fc
  .array(fc.constantFrom(...STATES.split(' ')), { minLength: 1, maxLength: 3 })
  .map(words => words.join(' '))
const line = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(pattern, states).map(([glob, words]) => `${glob} ${words}`) },
  fc.tuple(pattern, states).map(([glob, words]) => `"${glob.replaceAll(/["\\]/g, '\\$&')}" ${words}`),
  fc
    .tuple(fc.constantFrom('one', 'two', 'binary', '-x'), states)
    .map(([macro, words]) => `[attr]${macro} ${words}`),
  fc.tuple(pattern, states).map(([glob, words]) => ` \t${glob}\t${words}\r`),
  fc.tuple(pattern, states).map(([glob, words]) => `# ${glob} ${words}`),
)
const file = (maxLength: number) => fc.array(line, { maxLength }).map(lines => lines.join('\n'))
const files = fc.record({ root: file(6), a: file(3), ab: file(3), info: file(1) })
const paths = fc.uniqueArray(
  fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 4 }).map(parts => parts.join('/')),
  { minLength: 150, maxLength: 150 },
)

/** What git says of paths, by attribute. */
async function byGit(folder: string, asked: readonly string[]): Promise<Map<string, Map<string, string>>> {
  const said = new Map(asked.map(path => [path, new Map<string, string>()]))
  const output = await git(['check-attr', '-z', '--stdin', ...ATTRIBUTES], {
    cwd: folder,
    input: asked.join('\0'),
  })
  const words = output.split('\0')
  for (let at = 0; at + 2 < words.length; at += 3)
    said.get(words[at] ?? '')?.set(words[at + 1] ?? '', words[at + 2] ?? '')
  return said
}

/** The attributes of one path, by the manual's words. */
function conversionOf(said: ReadonlyMap<string, string>): Conversion {
  const value = (name: string) => {
    const text = said.get(name) ?? ''
    return ['unspecified', 'unset', 'set', ''].includes(text) ? null : text
  }
  const states = ['text', 'crlf'].map(name => said.get(name))
  const state = states.find(text => ['set', 'unset', 'auto', 'input'].includes(text ?? ''))
  const given = value('eol')
  const eol = given === 'lf' || given === 'crlf' ? given : state === 'input' ? 'lf' : null
  const text = state === 'auto' ? 'auto' : state === 'unset' || (!state && eol === null) ? 'no' : 'yes'
  return {
    text,
    eol: state === 'unset' ? null : eol,
    ident: said.get('ident') === 'set',
    encoding: value('working-tree-encoding'),
    filter: value('filter'),
  }
}

describe('attributes', () => {
  test('are what git check-attr says, for any files of them and any paths', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'agirunner-attributes-'))
    await git(['init', '--quiet', folder])
    await mkdir(join(folder, 'a/b'), { recursive: true })
    await mkdir(join(folder, '.git/info'), { recursive: true })
    let matched = 0
    const property = fc.asyncProperty(files, paths, async (texts, asked) => {
      await writeFile(join(folder, '.gitattributes'), texts.root)
      await writeFile(join(folder, 'a/.gitattributes'), texts.a)
      await writeFile(join(folder, 'a/b/.gitattributes'), texts.ab)
      await writeFile(join(folder, '.git/info/attributes'), texts.info)
      const root = Attributes.root(
        Buffer.from(texts.root),
        Buffer.from(texts.info),
        'work tree',
        new Effort(1e9),
      )
      const inA = root.below('a/', Buffer.from(texts.a))
      const inB = inA.below('a/b/', Buffer.from(texts.ab))
      for (const [path, said] of await byGit(folder, asked)) {
        const at = path.startsWith('a/b/') ? inB : path.startsWith('a/') ? inA : root
        const expected = conversionOf(said)
        if (expected.text !== 'no' || expected.ident || expected.filter !== null) matched += 1
        expect({ path, ...at.conversionOf(path) }).toEqual({ path, ...expected })
      }
    })
    await fc.assert(property, { numRuns: 60, seed: 4 })
    await rm(folder, { recursive: true })
    expect(matched).toBeGreaterThan(300)
  })

  const of = (text: string | Buffer, path: string, from: 'work tree' | 'tree' = 'tree', effort = 1e9) =>
    Attributes.root(Buffer.from(text), null, from, new Effort(effort)).conversionOf(path).text

  test('lines that git passes over, and what ends a file', () => {
    const long = 'x'.repeat(2048 - ' text'.length)
    expect([of(`${long} text`, long), of(`${long.slice(1)} text`, long.slice(1))]).toEqual(['no', 'yes'])
    expect([of('\ufeffa text', 'a'), of('\ufeffa text', 'a', 'work tree')]).toEqual(['no', 'yes'])
    const text = 'b text\0\na text'
    expect([of(text, 'a'), of(text, 'a', 'work tree')]).toEqual(['no', 'yes'])
  })

  test('thousands of plain paths cost nothing, thousands of patterns only what is allowed', () => {
    const plain = Array.from({ length: 50_000 }, (_, index) => `dir/file${index} text`).join('\n')
    expect(of(plain, 'dir/file49999', 'tree', 1000)).toBe('yes')
    const hostile = plain.replaceAll('dir/', 'd*r/')
    expect(of(hostile, 'dir/file49999', 'tree', 1e8)).toBe('yes')
    expect(() => of(hostile, 'dir/file49999', 'tree', 1000)).toThrow(EffortError)
  })

  test('macros that stand for one another end', () => {
    expect(of('[attr]one two\n[attr]two one text\na one', 'a')).toBe('yes')
  })
})

test('a pattern made to be slow is not, where trying every split is', () => {
  const stars = 24
  const text = 'a'.repeat(48)
  const glob = new Glob(`${'*a'.repeat(stars)}b`)
  expect(glob.matches(text, new Effort(20_000))).toBe(false)
  expect(glob.matches(`${text}b`, new Effort(20_000))).toBe(true)
  const started = performance.now()
  expect(new RegExp(`^${'[^/]*a'.repeat(6)}b$`).test(text)).toBe(false)
  const ofSix = performance.now() - started
  const again = performance.now()
  for (let round = 0; round < 10; round += 1) glob.matches(text, new Effort(20_000))
  expect((performance.now() - again) / 10).toBeLessThan(ofSix)
})

const TEXT: Conversion = { text: 'yes', eol: 'crlf', ident: true, encoding: null, filter: null }
const OID = '1'.repeat(40)

test('what went to a work tree comes back', () => {
  const anything = fc.array(fc.constantFrom('a', '\n', '$Id$', '$', 'Id', ':', '\u00fc', ' '))
  const encodings = fc.constantFrom(
    null,
    'UTF-16',
    'UTF-16LE',
    'UTF-16BE',
    'UTF-16LE-BOM',
    'no-such-encoding',
  )
  const property = fc.property(anything, encodings, (parts, encoding) => {
    const data = toGit(Buffer.from(parts.join('')), TEXT, () => null).data
    const conversion = { ...TEXT, encoding }
    const there = Buffer.concat([...toWorkTree(data, OID, conversion)])
    expect(toGit(there, conversion, () => null).data.toString()).toBe(data.toString())
  })
  fc.assert(property, { numRuns: 2000 })
})

test('a file of keywords goes to the work tree piece by piece, and quickly', () => {
  const data = Buffer.alloc(5 * 2 ** 20, '$Id$\n')
  const expanded = `$Id: ${OID} $\r\n`
  const started = performance.now()
  let [size, largest] = [0, 0]
  for (const { length } of toWorkTree(data, OID, TEXT)) {
    size += length
    largest = Math.max(largest, length)
  }
  expect(size).toBe((data.length / 5) * expanded.length)
  expect(largest).toBeLessThan(2 ** 18)
  expect(performance.now() - started).toBeLessThan(20_000)
})
