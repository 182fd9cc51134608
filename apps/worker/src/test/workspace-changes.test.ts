import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { lstatSync } from 'node:fs'
import { chmod, mkdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createRepository, type Files, git, type Repository } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createChangesCapture } from '../capture/changes/index.js'
import type { Workspaces } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { accept, QUIET, treeByGit, WITHOUT_DISKS, WorkspaceFixture } from './workspace-fixture.js'

const run = promisify(execFile)
const text = (lines: number) => Array.from({ length: lines }, (_, index) => `line ${index}\n`).join('')
const NOISE = Buffer.from(Array.from({ length: 3000 }, (_, index) => (index * 7919) % 256))

const FILES: Files = {
  '.gitignore': 'ignored/\n*.log\n/build\n',
  'a.txt': text(100),
  'b.txt': 'no newline at the end',
  'c.bin': NOISE,
  'crlf.txt': 'one\r\ntwo\r\nthree\r\n',
  'latin1.txt': Buffer.from('caf\xe9\nna\xefve\n', 'latin1'),
  'empty.txt': '',
  'run.sh': { content: 'true\n', mode: 0o755 },
  link: { symlink: 'a.txt' },
  'dir/one.txt': text(10),
  'dir/two.txt': text(20),
  'dir/deep/three.txt': text(30),
  'other/four.txt': text(40),
  'other/sub/five.txt': text(50),
  'gone/six.txt': 'six\n',
  'swap/x.txt': 'x of swap\n',
  'pair/x.txt': 'x of pair\n',
  'odd \u00f6 "name"\n\t.txt': 'odd\n',
  'with space.txt': 'space\n',
  'sub/.gitignore': '*.tmp\n!keep.tmp\n',
  'sub/tracked.tmp': 'tracked all the same\n',
}

type Change = (repo: string) => Promise<unknown>
const write = (path: string, content: string | Buffer) => (repo: string) =>
  writeFile(join(repo, path), content)
/** git's own configuration is kept out, and the work tree is another user's, as it is in a container. */
const SHELL_ENV = {
  PATH: process.env.PATH,
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
}
const shell =
  (script: string): Change =>
  repo =>
    run('sh', ['-ec', script], { cwd: repo, env: SHELL_ENV })

/** Each by itself, and then all that go together. */
const CASES: Readonly<Record<string, Change>> = {
  nothing: async () => undefined,
  'only touched': shell('touch a.txt dir && chmod g+w b.txt'),
  text: write('a.txt', text(100).replace('line 50\n', 'changed\nand more\n').replace('line 3\n', '')),
  'text at both ends': write('a.txt', `first\n${text(100)}last`),
  'newline added at the end': write('b.txt', 'no newline at the end\n'),
  'last line without newline changed': write('b.txt', 'another line'),
  'lines after the one without newline': write('b.txt', 'no newline at the end\nmore\nand more'),
  crlf: write('crlf.txt', 'one\r\n2\r\nthree\n'),
  'bytes that are no UTF-8': write('latin1.txt', Buffer.from('caf\xe8\nna\xefve\n\xff\xfe', 'latin1')),
  binary: write('c.bin', Buffer.concat([NOISE.subarray(0, 1000), randomBytes(5000)])),
  'text to binary': write('a.txt', Buffer.from('a\0b\n')),
  'binary to text': write('c.bin', 'text\n'),
  'new text, binary and empty file': shell(
    "echo new >new.txt; printf 'a\\0b' >new.bin; : >new-empty; mkdir -p n/e/w; echo 1 >n/e/w/f",
  ),
  deleted: shell('rm a.txt c.bin empty.txt link'),
  emptied: write('a.txt', ''),
  'filled an empty one': write('empty.txt', 'x\n'),
  'deleted folder': shell('rm -r gone'),
  renamed: shell('git mv a.txt renamed.txt && mv c.bin dir/c.bin'),
  'renamed folder': shell('git mv dir moved'),
  'renamed folder with a change in it': shell('mv dir moved && echo x >>moved/one.txt && rm moved/two.txt'),
  'renamed folder over a removed one': shell('rm -r other && mv dir other'),
  'two folders swapped': shell('mv swap tmp && mv pair swap && mv tmp pair'),
  'folder made anew': shell('rm -r dir && mkdir dir && echo 1 >dir/one.txt'),
  'folder made anew with the same files': shell(
    'cp -a dir keep && rm -r dir && mkdir dir && cp -a keep/. dir && rm -r keep',
  ),
  'folder replaced by a file': shell('rm -r dir && echo file >dir'),
  'file replaced by a folder': shell('rm a.txt && mkdir a.txt && echo f >a.txt/f'),
  'folder replaced by a file that the rules ignore': shell(
    'echo gone >>.gitignore; rm -r gone; echo f >gone',
  ),
  'folder replaced by a link': shell('rm -r dir && ln -s other dir'),
  'link replaced by a folder': shell('rm link && mkdir link && echo f >link/f'),
  'link replaced by a file': shell('rm link && echo f >link'),
  'file replaced by a link': shell('rm a.txt && ln -s /etc/shadow a.txt'),
  'link elsewhere': shell('ln -sfn ../../outside link && ln -s nowhere "new link"'),
  modes: shell('chmod +x a.txt && chmod -x run.sh && chmod 600 b.txt'),
  'mode and text': shell('chmod +x a.txt && echo more >>a.txt'),
  'odd names': shell(
    'echo more >>"with space.txt"; printf 1 >"tab\there"; printf 2 >"$(printf \'nl\\nx\')"; printf 3 >"q\\"\\\\ \'"; echo more >>odd*',
  ),
  'name of raw bytes': repo =>
    writeFile(Buffer.concat([Buffer.from(`${repo}/`), Buffer.from([0x66, 0xff, 0x80])]), 'raw\n'),
  ignored: shell(
    'mkdir -p ignored/x build; echo 1 >ignored/x/f; echo 1 >x.log; echo 1 >build/f; mkdir -p dir/build; echo 1 >dir/build/f',
  ),
  'rules of a folder': shell(
    'echo 1 >sub/new.tmp; echo 1 >sub/keep.tmp; echo more >>sub/tracked.tmp; mkdir sub/deep; echo 1 >sub/deep/x.tmp',
  ),
  'rules changed': shell('echo "*.txt" >>.gitignore; echo 1 >new.txt; echo more >>a.txt'),
  'added by force': shell('mkdir ignored; echo 1 >ignored/f; echo 2 >ignored/g; git add -f ignored/f'),
  'no more tracked, and ignored': shell(
    'echo b.txt >>.gitignore; printf "/sub/\n/dir/\n" >>.gitignore; git rm -rq --cached b.txt dir sub/tracked.tmp a.txt; echo more >>dir/one.txt; git commit -qam "Stop tracking"',
  ),
  'no more tracked, and not ignored': shell('git rm -rq --cached b.txt dir; echo more >>dir/one.txt'),
  'excluded in .git/info': shell('echo secret.txt >>.git/info/exclude; echo 1 >secret.txt'),
  committed: shell(
    'git commit -qam "$(printf \'subject\\n\\nbody\')" --allow-empty; echo x >>a.txt; git commit -qam two; echo y >>b.txt',
  ),
  'many scattered edits': write('a.txt', text(100).replace(/line (\d*[27])\n/g, 'edited $1\n')),
}

describe.each(WITHOUT_DISKS)('changes of a repository, %s', strategy => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  let repository: Repository
  let clean: string
  const capture = createChangesCapture()

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    repository = await createRepository({ root: fixture.root, name: 'demo', files: FILES })
    room = fixture.room(strategy)
    clean = join(fixture.root, 'clean')
    await git(['clone', '--quiet', repository.path, clean])
  })
  afterAll(async () => {
    const left = await fixture.leftovers()
    await capture.close()
    await fixture.close()
    expect(left).toEqual([])
  })

  const prepare = (options: Parameters<typeof accept>[1] = {}) =>
    room.prepare(accept({ url: `${fixture.server.url}/demo.git`, commit: repository.head }, options), QUIET)
  const captureOf = async (plan: WorkspacePlan) => {
    await plan.delivery.collect('repo', QUIET.signal)
    return await capture.capture({
      plan,
      patchFile: join(plan.slot.root, 'patch'),
      signal: QUIET.signal,
    })
  }

  /** Applies a patch with real git to a clean clone. */
  async function applied(patchFile: string | null): Promise<string> {
    await git(['reset', '--quiet', '--hard', repository.head], { cwd: clean })
    await git(['clean', '-qfdx'], { cwd: clean })
    if (patchFile) await git(['apply', '--index', '--binary', patchFile], { cwd: clean })
    return await git(['write-tree'], { cwd: clean })
  }

  test.each(Object.entries(CASES))('%s', async (_name, change) => {
    const plan = await prepare()
    try {
      const byGit = await fixture.inside(plan, async repo => {
        await change(repo)
        return await treeByGit(repo, join(plan.slot.root, 'scratch'))
      })
      const { changes, patch } = await captureOf(plan)
      expect(changes.tree).toBe(byGit)
      expect(await applied(patch && join(plan.slot.root, 'patch'))).toBe(byGit)
      expect(patch === null).toBe(changes.files.length === 0)
    } finally {
      await plan.release()
    }
  })

  test('everything at once, with what git says of it', async () => {
    const plan = await prepare()
    const names = [
      'text',
      'crlf',
      'binary',
      'renamed folder',
      'modes',
      'odd names',
      'ignored',
      'link elsewhere',
      'deleted folder',
    ]
    const byGit = await fixture.inside(plan, async repo => {
      for (const name of names) await CASES[name]?.(repo)
      return await treeByGit(repo, join(plan.slot.root, 'scratch'))
    })
    const { changes } = await captureOf(plan)
    expect(changes.tree).toBe(byGit)
    expect(await applied(join(plan.slot.root, 'patch'))).toBe(byGit)
    const stat = await git(['diff', '--cached', '--shortstat', '-M100%', repository.head], { cwd: clean })
    expect(stat).toContain(`${changes.insertions} insertions`)
    expect(stat).toContain(`${changes.deletions} deletions`)
    await plan.release()
  })

  test('says what each change is', async () => {
    const plan = await prepare()
    await fixture.inside(
      plan,
      shell(
        'git mv a.txt z.txt; rm gone/six.txt link; ln -s x run.tmp; rm run.sh; ln -s y run.sh; echo 1 >n; printf "\\0" >c.bin',
      ),
    )
    const { changes } = await captureOf(plan)
    expect(changes.files).toEqual([
      { path: 'repo/gone/six.txt', from: null, status: 'deleted', mode: null, binary: false },
      { path: 'repo/link', from: null, status: 'deleted', mode: null, binary: false },
      { path: 'repo/c.bin', from: null, status: 'modified', mode: '100644', binary: true },
      { path: 'repo/n', from: null, status: 'added', mode: '100644', binary: false },
      { path: 'repo/run.sh', from: null, status: 'type_changed', mode: '120000', binary: false },
      { path: 'repo/run.tmp', from: null, status: 'added', mode: '120000', binary: false },
      { path: 'repo/z.txt', from: 'repo/a.txt', status: 'renamed', mode: '100644', binary: false },
    ])
    await plan.release()
  })

  test('commits of the task, oldest first, wherever HEAD is', async () => {
    const plan = await prepare()
    const shas = await fixture.inside(plan, async repo => {
      const env = { GIT_AUTHOR_NAME: 'Grace', GIT_AUTHOR_EMAIL: 'grace@example.com' }
      await git(['commit', '--quiet', '--allow-empty', '-m', 'one\n\nwith a body'], { cwd: repo, env })
      await git(['switch', '--quiet', '-c', 'elsewhere'], { cwd: repo })
      await git(['commit', '--quiet', '--allow-empty', '-m', 'two'], { cwd: repo, env })
      await git(['gc', '--quiet'], { cwd: repo })
      return (await git(['log', '--format=%H', '--reverse', `${repository.head}..`], { cwd: repo })).split(
        '\n',
      )
    })
    const { changes, patch } = await captureOf(plan)
    const author = { name: 'Grace', email: 'grace@example.com' }
    expect(changes.commits).toEqual([
      { sha: shas[0], author, message: 'one\n\nwith a body\n' },
      { sha: shas[1], author, message: 'two\n' },
    ])
    expect(patch).toBeNull()
    await plan.release()
  })

  test.each([
    ['removed', 'rm -rf .git'],
    [
      'a link',
      'mv .git /tmp/agirunner-test-git && ln -s /tmp/agirunner-test-git .git; rm -rf /tmp/agirunner-test-git',
    ],
    ['a file', 'rm -rf .git; echo "gitdir: /etc" >.git'],
    ['without HEAD', 'rm .git/HEAD'],
    ['with a HEAD that is nonsense', 'echo nonsense >.git/HEAD'],
    ['with a HEAD that leads out', 'echo "ref: refs/../../../../../etc/passwd" >.git/HEAD'],
    [
      'with objects that are a link',
      'rm -rf .git/objects; ln -s /etc .git/objects; echo 1111111111111111111111111111111111111111 >.git/HEAD',
    ],
    ['with a commit that is missing', 'echo 1111111111111111111111111111111111111111 >.git/HEAD'],
  ])('a .git that is %s: files are compared all the same', async (_name, script) => {
    const plan = await prepare()
    await fixture.inside(plan, shell(`echo more >>a.txt; ${script}`))
    const { changes } = await captureOf(plan)
    expect(changes.files.map(file => file.path)).toEqual(['repo/a.txt'])
    expect(changes.commits).toEqual([])
    expect(changes.notes.join()).toMatch(
      /commits can't be read|not all of the task's commits|names no commit/,
    )
    await plan.release()
  })

  test('devices, FIFOs, sockets and repositories inside are left out with a note', async () => {
    const plan = await prepare()
    await fixture.inside(
      plan,
      shell(
        'mkfifo fifo; mknod device c 1 3; mkdir nested; cd nested; git init -q; echo 1 >f; cd ..; mkdir -p dir/.GIT; echo 1 >dir/.GIT/x',
      ),
    )
    const { changes } = await captureOf(plan)
    expect(changes.files).toEqual([])
    const notes = changes.notes.join('\n')
    for (const path of ['repo/fifo', 'repo/device', 'repo/nested', 'repo/dir/.GIT'])
      expect(notes).toContain(path)
    await plan.release()
  })

  test('files that the platform placed are no changes, whatever becomes of them', async () => {
    const files = [
      { path: 'repo/.env.test', text: 'x' },
      { path: 'repo/new/[odd] !#\\*.txt', text: 'y' },
      { path: 'repo/dir/one.txt', text: 'replaced' },
    ]
    const plan = await prepare({ files })
    expect(plan.placed).toEqual(['.env.test', 'new/[odd] !#\\*.txt', 'dir/one.txt'])
    await fixture.inside(plan, async repo => {
      expect(await git(['status', '--porcelain'], { cwd: repo })).toBe(' M dir/one.txt')
      await rm(join(repo, '.env.test'))
      await writeFile(join(repo, 'dir/one.txt'), 'again')
      await writeFile(join(repo, 'dir/two.txt'), 'mine')
    })
    const { changes } = await captureOf(plan)
    expect(changes.files.map(file => file.path)).toEqual(['repo/dir/two.txt'])
    await plan.release()
  })

  test('a file too large for a patch is left out with a note, whatever it occupies', async () => {
    const plan = await prepare()
    await fixture.inside(plan, async repo => {
      await writeFile(join(repo, 'sparse'), '')
      // An archive brings every zero, so here it is only as large as it must be.
      await truncate(join(repo, 'sparse'), strategy === 'archive' ? 2 ** 28 + 1 : 10 * 2 ** 30)
    })
    const { changes } = await captureOf(plan)
    expect(changes.files).toEqual([])
    expect(changes.notes.join()).toContain('repo/sparse')
    await plan.release()
  })

  test('a snapshot that lost an object fails with capture.failed and leaves no patch', async () => {
    const plan = await prepare()
    await fixture.inside(plan, shell('echo more >>a.txt'))
    const broken = { ...plan, base: { ...plan.base, commit: '1'.repeat(40) } }
    await expect(captureOf(broken)).rejects.toMatchObject({ code: 'capture.failed', phase: 'capture' })
    expect(lstatSync(join(plan.slot.root, 'patch'), { throwIfNoEntry: false })).toBeUndefined()
    await plan.release()
  })

  test('an empty repository: everything is added, relative to the empty tree', async () => {
    const plan = await room.prepare(accept({ type: 'empty' }), QUIET)
    const byGit = await fixture.inside(plan, async repo => {
      expect(await git(['status', '--porcelain', '-b'], { cwd: repo })).toBe('## No commits yet on main')
      await mkdir(join(repo, 'a'))
      await writeFile(join(repo, 'a/b'), 'c\n')
      await writeFile(join(repo, 'gone'), '')
      await rename(join(repo, 'gone'), join(repo, 'kept'))
      await chmod(join(repo, 'kept'), 0o755)
      await symlink('kept', join(repo, 'link'))
      return await treeByGit(repo, join(plan.slot.root, 'scratch'))
    })
    const { changes } = await captureOf(plan)
    expect(changes.tree).toBe(byGit)
    expect(changes.files.map(file => file.status)).toEqual(['added', 'added', 'added'])
    expect(
      (await readFile(join(plan.slot.root, 'patch'), 'latin1')).startsWith('diff --git a/a/b b/a/b\n'),
    ).toBe(true)
    await plan.release()
  })
})
