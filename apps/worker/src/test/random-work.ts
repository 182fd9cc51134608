import { chmod, lstat, mkdir, readdir, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { FileContent, Files } from '@agirunner/test-kit'
import fc from 'fast-check'
import { shellIn } from './shell.js'

/** Few of them, so that changes meet; each is awkward to something. */
const NAMES = [
  'a',
  'b.txt',
  'A',
  'd',
  'dir',
  '-x',
  'with space',
  'tab\there',
  'nl\nx',
  '"q"\\',
  'ö',
  'e\u0301',
  'a.log',
]
const name = fc.constantFrom(...NAMES)
const path = fc.array(name, { minLength: 1, maxLength: 3 }).map(parts => parts.join('/'))
const lines = fc
  .array(fc.constantFrom('one', 'two', 'three', '', '\tx ', 'cr\r', '-- ', '+++ b', '@@ -1 +1 @@'), {
    maxLength: 30,
  })
  .chain(all => {
    // With one more CR it would be stored as text that git itself converts once more when it is next written.
    const dos = all.map(line => line.trimEnd()).join('\r\n')
    return fc.constantFrom(all.join('\n'), `${all.join('\n')}\n`, `${dos}\r\n`)
  })
const bytes = fc.uint8Array({ maxLength: 300 }).map(all => Buffer.from(all))
const latin1 = fc.constant(Buffer.from('caf\xe9\n\xff\xfe', 'latin1'))
const content = fc.oneof(
  { weight: 5, arbitrary: lines },
  { weight: 2, arbitrary: bytes },
  { weight: 1, arbitrary: latin1 },
  { weight: 1, arbitrary: fc.constant('') },
)
const target = fc.constantFrom('a', '../../..', '/etc/shadow', 'dir', 'nowhere', '.git/config', '..')
const rules = fc
  .array(
    fc.constantFrom('*.log', 'dir/', '!a.log', '/a', 'd/*', '*.txt', '!dir/', '#x', '\\!x', '**/b.txt', 'A '),
    {
      minLength: 1,
      maxLength: 4,
    },
  )
  .map(all => `${all.join('\n')}\n`)
const attributes = fc
  .array(
    fc.constantFrom(
      '* text=auto',
      '*.txt text eol=crlf',
      'a -text',
      'dir/** eol=lf',
      '*.log binary',
      'd text',
    ),
    {
      minLength: 1,
      maxLength: 3,
    },
  )
  .map(all => `${all.join('\n')}\n`)
const folder = fc.constantFrom('', 'd/', 'dir/', 'dir/d/')

const file: fc.Arbitrary<FileContent> = fc.oneof(
  { weight: 6, arbitrary: content },
  { weight: 1, arbitrary: content.map(one => ({ content: one, mode: 0o755 })) },
  { weight: 1, arbitrary: target.map(to => ({ symlink: to })) },
)

/** What a repository holds before: a path that goes through another's file gives way. */
export const baseFiles: fc.Arbitrary<Files> = fc
  .tuple(
    fc.array(fc.tuple(path, file), { minLength: 1, maxLength: 12 }),
    fc.option(fc.tuple(folder, rules)),
    fc.option(fc.tuple(folder, attributes)),
  )
  .map(([files, ignore, attribute]) => {
    const all = [
      ...files,
      ...(ignore ? [[`${ignore[0]}.gitignore`, ignore[1]] as const] : []),
      ...(attribute ? [[`${attribute[0]}.gitattributes`, attribute[1]] as const] : []),
    ]
    const kept = new Map<string, FileContent>()
    for (const [at, what] of all) {
      const clashes = [...kept.keys()].some(
        one => one === at || one.startsWith(`${at}/`) || at.startsWith(`${one}/`),
      )
      if (!clashes) kept.set(at, what)
    }
    return Object.fromEntries(kept)
  })

export type Step =
  | { readonly do: 'write'; readonly path: string; readonly content: string | Uint8Array }
  | { readonly do: 'raw name'; readonly byte: number }
  | { readonly do: 'link'; readonly path: string; readonly target: string }
  | { readonly do: 'remove' | 'mode' | 'fifo' | 'empty' | 'add by force' | 'untrack'; readonly path: string }
  | { readonly do: 'move'; readonly path: string; readonly to: string }
  | { readonly do: 'commit' | 'stage' | 'detach' | 'back' | 'orphan' | 'gc' }

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('write' as const), path, content }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      path: folder.map(at => `${at}.gitignore`),
      content: rules,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      path: folder.map(at => `${at}.gitattributes`),
      content: attributes,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('raw name' as const),
      byte: fc.integer({ min: 0x80, max: 0xff }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('link' as const), path, target }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'remove' as const,
        'mode' as const,
        'fifo' as const,
        'empty' as const,
        'add by force' as const,
        'untrack' as const,
      ),
      path,
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('move' as const), path, to: path }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'commit' as const,
        'stage' as const,
        'detach' as const,
        'back' as const,
        'gc' as const,
      ),
    }),
  },
)
/** What a task does, one after the other; a step that can't be done is passed over. */
export const steps = fc.array(step, { minLength: 1, maxLength: 12 })

/** Does it in a work tree, as a task would. */
export async function doSteps(repo: string, all: readonly Step[]): Promise<void> {
  for (const one of all) await doStep(repo, one).catch(ignoreImpossible)
}

/** A path through a file, a folder over a folder: a task's command would fail, and the task go on. */
function ignoreImpossible(error: unknown): void {
  const { code } = error as NodeJS.ErrnoException
  const fromShell = typeof code === 'number'
  if (!fromShell && !['ENOENT', 'ENOTDIR', 'EEXIST', 'ENOTEMPTY', 'EISDIR', 'EINVAL'].includes(code ?? ''))
    throw error
}

async function doStep(repo: string, one: Step): Promise<void> {
  switch (one.do) {
    case 'write':
      return await put(repo, one.path, at => writeFile(at, one.content))
    case 'raw name':
      return await writeFile(Buffer.concat([Buffer.from(`${repo}/f`), Buffer.from([one.byte])]), 'raw\n')
    case 'link':
      return await put(repo, one.path, at => symlink(one.target, at))
    case 'fifo':
      return await put(repo, one.path, at => shellIn(repo, `mkfifo -- ${quoted(at)}`))
    case 'remove':
      return await rm(await plain(repo, one.path), { recursive: true })
    case 'mode': {
      const at = await plain(repo, one.path)
      const { mode } = await lstat(at)
      return await chmod(at, mode ^ 0o111)
    }
    case 'empty':
      return await truncate(await plain(repo, one.path))
    case 'add by force':
      return void (await shellIn(repo, `git add -f -- ${quoted(one.path)}`))
    case 'untrack':
      return void (await shellIn(repo, `git rm -rq --cached -- ${quoted(one.path)}`))
    case 'move': {
      const from = await plain(repo, one.path)
      // Every file of a snapshot has one time: git would take a moved file of the same size for what was there.
      return await put(repo, one.to, async at => {
        await rename(from, at)
        await shellIn(repo, `find ${quoted(at)} -type f -exec touch -- {} +`)
      })
    }
    case 'commit':
    case 'stage':
    case 'detach':
    case 'back':
    case 'orphan':
    case 'gc':
      return void (await shellIn(repo, GIT[one.do]))
  }
}

const GIT = {
  commit: 'git add -A && git commit -qm work',
  stage: 'git add -A',
  detach: 'git checkout -q --detach',
  back: 'git reset -q --hard HEAD^ || git reset -q --hard',
  orphan: 'git checkout -q --orphan other && git commit -qm other',
  gc: 'git gc -q',
}

/** Replaces what is at a path; folders on the way are made, links on it not followed. */
async function put(repo: string, path: string, make: (at: string) => Promise<unknown>): Promise<void> {
  const at = join(repo, path)
  const parts = path.split('/').slice(0, -1)
  for (const [index] of parts.entries()) {
    const folder = join(repo, ...parts.slice(0, index + 1))
    const stat = await lstat(folder).catch(() => null)
    if (stat && !stat.isDirectory()) return
  }
  await mkdir(dirname(at), { recursive: true })
  await rm(at, { recursive: true, force: true })
  await make(at)
}

/** A file, or a folder with something in it, that is reached by folders alone. */
async function plain(repo: string, path: string): Promise<string> {
  const impossible = (code: string) => Object.assign(new Error(path), { code })
  let at = repo
  for (const part of path.split('/')) {
    // A link could lead out of the work tree.
    if (!(await lstat(at)).isDirectory()) throw impossible('ENOTDIR')
    if (!(await readdir(at)).includes(part)) throw impossible('ENOENT')
    at = join(at, part)
  }
  const stat = await lstat(at)
  if (!stat.isFile() && !stat.isDirectory()) throw impossible('EINVAL')
  return at
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
