import { isUtf8 } from 'node:buffer'
import { execFile } from 'node:child_process'
import { appendFile, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createRepository, type FileContent, type Files, git, type Repository } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { createChangesCapture } from '../capture/changes/index.js'
import type { Workspaces } from '../workspace/index.js'
import type { Strategy, WorkspacePlan } from '../workspace/plan.js'
import { accept, QUIET, treeByGit, WorkspaceFixture } from './workspace-fixture.js'

const run = promisify(execFile)

/** Each case has one of every line. */
const VALUES = [
  [
    '',
    'text',
    '-text',
    '!text',
    'text=auto',
    'text=auto',
    'text=input',
    'text=what',
    'crlf',
    '-crlf',
    'binary',
  ],
  ['', 'eol=lf', 'eol=crlf', 'eol=crlf', 'eol=what', '!eol', 'crlf=input'],
  ['', '', 'ident', '-ident'],
  [
    '',
    '',
    '',
    'working-tree-encoding=UTF-16',
    'working-tree-encoding=utf-16le',
    'working-tree-encoding=UTF16BE',
  ],
  ['', '', '', 'filter=lfs', 'working-tree-encoding=UTF-16LE-BOM', 'working-tree-encoding=utf8'],
].map(values => fc.constantFrom(...values))

const PARTS = [
  'a line\n',
  'a line\n',
  'dos\r\n',
  'dos\r\n',
  'long '.repeat(60),
  'r\r',
  '\r\r\n',
  '\0',
  '\x1a',
  '\b\x1b\t',
  '\x01',
  '\u00fc\u{1f600}\n',
  '$Id$\n',
  '$Id: 0123 $',
  '$Id: of another time $\r\n',
  '$Id:x y$ $Id:$',
  '$Id: cut\n$',
  '$$Id$',
  '$Id',
  '$',
]
/** Where git itself loses a byte on the way to the work tree. */
const LOSSY = /\$Id[^$:]\$Id:/
/** Some are no UTF-8, and some are empty. */
const BYTES = fc
  .oneof(
    {
      weight: 9,
      arbitrary: fc
        .array(fc.constantFrom(...PARTS), { maxLength: 9 })
        .map(parts => Buffer.from(parts.join(''))),
    },
    fc.uint8Array({ maxLength: 30 }).map(bytes => Buffer.from(bytes)),
  )
  .filter(bytes => !LOSSY.test(bytes.toString('latin1')))

interface Case {
  readonly path: string
  readonly attributes: string
  readonly content: Buffer
}

function sampleCases(count: number, seed: number): Case[] {
  const sample = fc.sample(fc.tuple(fc.tuple(...VALUES), BYTES), { numRuns: count, seed })
  return sample.map(([attributes, content], index) => ({
    path: `${['', 'one/', 'one/two/'][index % 3]}f${index}.x`,
    attributes: attributes.filter(value => value !== '').join(' '),
    content,
  }))
}

/** Half of the attributes stand in the folder of their file, half in the root. */
function patternOf({ path }: Case): [folder: string, pattern: string] {
  const name = path.slice(path.lastIndexOf('/') + 1)
  return path.length % 2 === 0 ? ['', `**/${name}`] : [path.slice(0, -name.length), name]
}

function filesOf(cases: readonly Case[]): Files {
  const files: Record<string, FileContent> = {}
  const lines = new Map<string, string[]>()
  for (const at of cases) {
    files[at.path] = at.content
    const [folder, pattern] = patternOf(at)
    lines.set(folder, [...(lines.get(folder) ?? []), `${pattern} ${at.attributes}`])
  }
  for (const [folder, text] of lines) files[`${folder}.gitattributes`] = `${text.join('\n')}\n`
  return files
}

/** A repository that holds these bytes, whatever attributes say of them. */
async function rawRepository(root: string, name: string, files: Files): Promise<Repository> {
  const build: Parameters<typeof createRepository>[0]['build'] = async builder => {
    const never = '* -text -ident !working-tree-encoding !filter\n'
    await writeFile(join(root, `${name}.git/info/attributes`), never)
    await builder.write(files)
    await builder.commit('as it lies')
  }
  return await createRepository({ root, name, build })
}

const CASES = sampleCases(400, 20)
const isEncoded = ({ attributes }: Case) => /encoding=(?!utf8)/.test(attributes)

/** All as `git add` would have stored it, but for `old.*`, which were there before the attributes were. */
const PLAIN: Files = {
  '.gitattributes': [
    '*.txt text eol=crlf',
    '*.auto text=auto',
    '*.both text=auto eol=crlf',
    '*.id ident',
    '*.raw -text',
    '*.lfs filter=lfs -text',
    '*.u16 text working-tree-encoding=UTF-16LE-BOM eol=crlf',
    '*.jis working-tree-encoding=SHIFT-JIS',
    '',
  ].join('\n'),
  'a.txt': 'one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n',
  'b.auto': 'one\ntwo\n',
  'b.both': 'one\ntwo\n',
  'c.id': 'x\n$Id$\n',
  'd.raw': 'one\r\n',
  'e.lfs': 'pointer\n',
  'g.u16': '\u00fc one\ntwo\n',
  'h.jis': 'ascii\n',
  'none.c': 'one\r\n',
  'old.txt': 'one\r\ntwo\r\n',
  'old.auto': 'one\r\ntwo\r\n',
  'run.txt': { content: 'true\n', mode: 0o755 },
  'sub/.gitattributes': '*.cr text eol=crlf\n',
  'sub/f.cr': 'sub\n',
}

type Edit = (repo: string) => Promise<unknown>
const write = (path: string, content: string | Buffer) => (repo: string) =>
  writeFile(join(repo, path), content)
const SHELL_ENV = {
  PATH: process.env.PATH,
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
}
const shell =
  (script: string): Edit =>
  repo =>
    run('sh', ['-ec', script], { cwd: repo, env: SHELL_ENV })

/** What a task does, and the files that it changes by that. */
const EDITS: Readonly<Record<string, [edit: Edit, changed: string[]]>> = {
  nothing: [async () => undefined, []],
  'touched, what git stores as it was': [shell('touch [a-g]*.* run.txt sub/f.cr'), []],
  'made writable, what git would store otherwise': [shell('chmod g+w old.txt old.auto'), []],
  'touched, what git stores otherwise the next time': [shell('touch old.txt old.auto'), ['old.txt']],
  'a line of a file with CRLF': [shell("sed -i 's/^two/2/' a.txt"), ['a.txt']],
  'all lines with LF': [shell("tr -d '\\r' <a.txt >b && cat b >a.txt && rm b"), []],
  'CRLF into text=auto': [write('b.auto', 'one\r\n2\r\n'), ['b.auto']],
  'only CRLF into text=auto': [write('b.auto', 'one\r\ntwo\r\n'), []],
  'a line of text=auto that was committed with CRLF': [shell("printf '3\\r\\n' >>old.auto"), ['old.auto']],
  'LF into text=auto that was committed with CRLF': [write('old.auto', 'one\ntwo\n'), ['old.auto']],
  'what is no text into text=auto': [write('b.both', 'one\r\n\0'), ['b.both']],
  'new files with CRLF': [
    shell("printf 'n\\r\\n' | tee n.txt n.auto n.both n.raw >n.c"),
    ['n.auto', 'n.both', 'n.c', 'n.raw', 'n.txt'],
  ],
  'ident, expanded otherwise': [write('c.id', 'x\n$Id: something else $\n'), []],
  'ident and a line': [shell('echo more >>c.id'), ['c.id']],
  'UTF-16': [
    write('g.u16', Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('\u00fc 1\r\ntwo\r\n', 'utf16le')])),
    ['g.u16'],
  ],
  'the mode of what git stores otherwise the next time': [shell('chmod +x old.txt'), ['old.txt']],
  'a link in place of text': [shell('rm a.txt && ln -s "$(printf \'x\\r\\ny\')" a.txt'), ['a.txt']],
  'moved by git': [shell('git mv old.auto new.auto && git mv a.txt z.txt'), ['new.auto', 'z.txt']],
  'moved past git': [
    shell('mv old.auto new.auto && mv a.txt z.txt && touch z.txt new.auto'),
    ['new.auto', 'old.auto', 'z.txt'],
  ],
  'attributes for files that it leaves alone': [shell('echo "* text" >>.gitattributes'), ['.gitattributes']],
  'attributes for files that it writes': [
    shell(
      "echo '*.c text' >>.gitattributes; echo '*.cr -text' >sub/.gitattributes; echo x >>none.c; echo x >>sub/f.cr",
    ),
    ['.gitattributes', 'none.c', 'sub/.gitattributes', 'sub/f.cr'],
  ],
  'attributes gone': [shell('rm .gitattributes; echo x >>a.txt'), ['.gitattributes', 'a.txt']],
  'attributes in .git/info': [
    shell("mkdir -p .git/info; echo '*.c text' >.git/info/attributes; printf 'x\\r\\n' >>none.c"),
    ['none.c'],
  ],
  'a new folder with attributes of its own': [
    shell("mkdir n; echo '*.c text' >n/.gitattributes; printf 'x\\r\\n' | tee n/x.c >x.c"),
    ['n/.gitattributes', 'n/x.c', 'x.c'],
  ],
}

describe.each<Strategy>(['overlay_volume', 'copy'])('attributes of a repository, %s', strategy => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  let matrix: Repository
  let plain: Repository
  let clones = 0
  const capture = createChangesCapture()

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    room = fixture.room(strategy)
    matrix = await rawRepository(fixture.root, 'matrix', filesOf(CASES))
    plain = await rawRepository(fixture.root, 'plain', PLAIN)
  })
  afterAll(async () => {
    const left = await fixture.leftovers()
    await capture.close()
    await fixture.close()
    expect(left).toEqual([])
  })

  const prepare = ({ name, head }: Repository) =>
    room.prepare(accept({ url: `${fixture.server.url}/${name}.git`, commit: head }), QUIET)
  const captureOf = (plan: WorkspacePlan) =>
    capture.capture({ plan, patchFile: join(plan.slot.root, 'patch'), signal: QUIET.signal })

  async function cloned(repository: Repository): Promise<string> {
    clones += 1
    const clone = join(fixture.root, `clone-${clones}`)
    await git(['clone', '--quiet', repository.path, clone])
    // Else git reads what is as old as its index, and takes what it would store otherwise for changed.
    const soon = new Date(Date.now() + 60_000)
    await utimes(join(clone, '.git/index'), soon, soon)
    return clone
  }

  /** The tree after the patch, by real git in a clean clone. */
  async function applied(repository: Repository, plan: WorkspacePlan): Promise<string> {
    const clone = await cloned(repository)
    await git(['apply', '--index', '--binary', join(plan.slot.root, 'patch')], { cwd: clone })
    return await git(['write-tree'], { cwd: clone })
  }

  test('every file is byte for byte what git clone makes, and git finds nothing to do', async () => {
    const [plan, clone] = [await prepare(matrix), await cloned(matrix)]
    let converted = 0
    await fixture.inside(plan, async repo => {
      const differ: unknown[] = []
      for (const at of CASES) {
        const [ours, gits] = [await readFile(join(repo, at.path)), await readFile(join(clone, at.path))]
        if (!gits.equals(at.content)) converted += 1
        const shown = [at.content, ours, gits].map(bytes => bytes.toString('latin1'))
        if (!ours.equals(gits)) differ.push([at.path, at.attributes, ...shown])
      }
      expect(differ).toEqual([])
      expect(await git(['status', '--porcelain'], { cwd: repo })).toBe('')
      expect(await git(['diff-files', '--name-only'], { cwd: repo })).toBe('')
    })
    expect(converted).toBeGreaterThan(100)
    await plan.release()
  })

  test('whatever a task writes under whatever attributes, it is captured as git add stores it', async () => {
    const plan = await prepare(matrix)
    const byGit = await fixture.inside(plan, async repo => {
      for (const [index, at] of CASES.entries()) await edit(repo, at, index)
      return await treeByGit(repo, join(plan.slot.root, 'scratch'), { touch: false })
    })
    const { changes } = await captureOf(plan)
    expect(changes.tree).toBe(byGit)
    expect(changes.files.length).toBeGreaterThan(150)
    expect(await applied(matrix, plan)).toBe(byGit)
    await plan.release()
  })

  /** Touches a file, adds to it, or gives it other bytes. What git could not encode is removed: `git add` gives up. */
  async function edit(repo: string, at: Case, index: number): Promise<void> {
    const path = join(repo, at.path)
    const other = CASES[(index * 7 + 1) % CASES.length]?.content ?? ''
    if (isEncoded(at) && !isUtf8(at.content)) await rm(path)
    else if (isEncoded(at) || index % 4 === 0) await writeFile(path, await readFile(path))
    else if (index % 4 === 1) await writeFile(path, other)
    else await appendFile(path, index % 4 === 2 ? 'more\r\n' : other)
  }

  test.each(Object.entries(EDITS))('%s', async (_name, [change, changed]) => {
    const plan = await prepare(plain)
    const byGit = await fixture.inside(plan, async repo => {
      await change(repo)
      return await treeByGit(repo, join(plan.slot.root, 'scratch'), { touch: false })
    })
    const { changes, patch } = await captureOf(plan)
    expect(changes.files.map(({ path }) => path).toSorted()).toEqual(changed.map(path => `repo/${path}`))
    expect(changes.tree).toBe(byGit)
    if (patch) expect(await applied(plain, plan)).toBe(byGit)
    expect(changes.notes).toEqual([])
    await plan.release()
  })

  test('one line of a file with CRLF is one line of the patch, with LF, as git diff prints it', async () => {
    const plan = await prepare(plain)
    const byGit = await fixture.inside(plan, async repo => {
      const text = await readFile(join(repo, 'a.txt'), 'utf8')
      expect(text).toContain('four\r\nfive\r\n')
      await writeFile(join(repo, 'a.txt'), text.replace('five', '5'))
      return await git(['diff', '--full-index'], { cwd: repo })
    })
    await captureOf(plan)
    const patch = await readFile(join(plan.slot.root, 'patch'), 'utf8')
    expect(patch.split('\n').filter(line => /^[-+][^-+]/.test(line))).toEqual(['-five', '+5'])
    // Behind a hunk's numbers git shows a line above it, which tells nothing.
    expect(patch.trimEnd()).toBe(byGit.replace(/^(@@ .* @@).*/gm, '$1'))
    await plan.release()
  })

  test('what is not applied is named, with the files that it concerns', async () => {
    const plan = await prepare(plain)
    await fixture.inside(plan, async repo => {
      await write('e.lfs', 'large\r\n')(repo)
      await write('h.jis', Buffer.from([0x83, 0x65, 0x0a]))(repo)
      await write('g.u16', Buffer.from('odd'))(repo)
    })
    const { changes } = await captureOf(plan)
    const why = 'of .gitattributes is not applied, bytes are taken as they lie'
    expect(changes.notes.toSorted()).toEqual([
      `repo/e.lfs: filter=lfs ${why}`,
      `repo/g.u16: working-tree-encoding=UTF-16LE-BOM ${why}`,
      `repo/h.jis: working-tree-encoding=SHIFT-JIS ${why}`,
    ])
    expect(await applied(plain, plan)).toBe(changes.tree)
    await plan.release()
  })

  test.each<[string, Edit, boolean]>([
    ['a file', shell('echo "*.c text" >.gitattributes'), true],
    ['a link', shell('echo "*.c text" >there; rm .gitattributes; ln -s there .gitattributes'), false],
    ['a FIFO', shell('rm .gitattributes; mkfifo .gitattributes'), false],
    ['a folder', shell('rm .gitattributes; mkdir .gitattributes; touch .gitattributes/x'), false],
    ['a huge file', shell('{ echo "*.c text"; head -c 5000000 /dev/zero; } >.gitattributes'), false],
  ])('attributes of the task that are %s', async (_name, change, isRead) => {
    const plan = await prepare(plain)
    await fixture.inside(plan, async repo => {
      await change(repo)
      await write('none.c', 'changed\r\n')(repo)
    })
    await captureOf(plan)
    const patch = await readFile(join(plan.slot.root, 'patch'), 'latin1')
    expect(patch.includes('+changed\n')).toBe(isRead)
    expect(patch.includes('+changed\r\n')).toBe(!isRead)
    await plan.release()
  })
})

describe('hostile attributes of a repository', () => {
  let fixture: WorkspaceFixture

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
  })
  afterAll(async () => {
    const left = await fixture.leftovers()
    await fixture.close()
    expect(left).toEqual([])
  })

  const prepare = ({ name, head }: Repository, limits: Parameters<WorkspaceFixture['room']>[1] = {}) =>
    fixture
      .room('copy', limits)
      .prepare(accept({ url: `${fixture.server.url}/${name}.git`, commit: head }), QUIET)

  test('a file that grows beyond the limit by what is expanded in it is refused', async () => {
    const files = { 'x.id': '$Id$'.repeat(100_000), '.gitattributes': '*.id ident\n' }
    const limits = { limits: { maxTreeBytes: 2_000_000 } }
    const bomb = await rawRepository(fixture.root, 'bomb', files)
    await expect(prepare(bomb, limits)).rejects.toMatchObject({ code: 'workspace.too_large' })
    const control = await rawRepository(fixture.root, 'no-bomb', { ...files, '.gitattributes': '' })
    await (await prepare(control, limits)).release()
  })

  test('a file of attributes that is larger than any honest one is refused', async () => {
    const files = { 'sub/.gitattributes': '# nothing\n'.repeat(450_000) }
    const large = await rawRepository(fixture.root, 'large', files)
    await expect(prepare(large)).rejects.toMatchObject({
      code: 'workspace.too_large',
      message: expect.stringContaining('"sub/.gitattributes"'),
    })
  })

  test('a link is no attributes file', async () => {
    const checkedOut = async (name: string, files: Files) => {
      const plan = await prepare(await rawRepository(fixture.root, name, { 'x.txt': 'x\n', ...files }))
      const text = await readFile(join(plan.layers.lower, 'x.txt'), 'utf8')
      await plan.release()
      return text
    }
    const text = '*.txt eol=crlf\n'
    expect(await checkedOut('linked', { there: text, '.gitattributes': { symlink: 'there' } })).toBe('x\n')
    expect(await checkedOut('named', { '.gitattributes': text })).toBe('x\r\n')
  })
})
