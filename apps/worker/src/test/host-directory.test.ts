import { execFile } from 'node:child_process'
import { renameSync, symlinkSync } from 'node:fs'
import { mkdir, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { git } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { createChangesCapture } from '../capture/changes/index.js'
import type { HostRoot } from '../support/host-roots.js'
import type { Workspaces } from '../workspace/index.js'
import type { Strategy, WorkspacePlan } from '../workspace/plan.js'
import { accept, QUIET, treeByGit, WorkspaceFixture } from './workspace-fixture.js'

const run = promisify(execFile)
const SECRET = 'nobody may read this'

/** Runs a script in a folder, and gives what it printed. */
async function sh(cwd: string, script: string): Promise<string> {
  const env = { PATH: process.env.PATH, HOME: '/nonexistent', GIT_CONFIG_NOSYSTEM: '1' }
  return (await run('sh', ['-ec', script], { cwd, env })).stdout
}

/** Everything that a folder holds, with owners, modes, times and contents: equal means untouched. */
const fingerprint = (folder: string) =>
  sh(folder, `find . -printf '%p %y %m %U %s %T@ %l\\n' | sort; find . -type f -exec sha1sum {} + | sort`)

describe.each<Strategy>(['overlay_volume', 'copy'])('a folder of the host, %s', strategy => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  let root: HostRoot
  let outside: string
  let folder: string
  const plans: WorkspacePlan[] = []
  const capture = createChangesCapture()

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    const real = join(await realpath(fixture.root), 'allowed')
    outside = join(await realpath(fixture.root), 'outside')
    root = { path: join(fixture.root, 'alias'), real }
    await mkdir(real)
    await symlink(real, root.path)
    room = fixture.room(strategy, { hostRoots: [root] })
  })
  beforeEach(async () => {
    folder = join(root.real, 'app')
    for (const path of [folder, outside]) await mkdir(path)
    await writeFile(join(outside, 'secret'), SECRET)
  })
  afterEach(async () => {
    for (const plan of plans.splice(0)) await plan.release()
    for (const path of [folder, outside]) await rm(path, { recursive: true })
    expect(await fixture.leftovers()).toEqual([])
  })
  afterAll(async () => {
    await capture.close()
    await fixture.close()
  })

  type TakeOptions = Parameters<typeof accept>[1] & { readOnly?: boolean; progress?: () => void }
  async function take(
    path = folder,
    { readOnly, progress, ...options }: TakeOptions = {},
  ): Promise<WorkspacePlan> {
    const accepted = accept({ type: 'host_directory', path, readOnly }, options)
    const plan = await room.prepare(accepted, { ...QUIET, ...(progress ? { progress } : {}) })
    plans.push(plan)
    return plan
  }
  const captureOf = (plan: WorkspacePlan) =>
    capture.capture({ plan, patchFile: join(plan.slot.root, 'patch'), signal: QUIET.signal })

  /** The names of a workspace's files, for those that nothing else is asked of. */
  async function namesIn(plan: WorkspacePlan): Promise<string[]> {
    return await fixture.inside(plan, async repo => (await readdir(repo)).sort())
  }

  /** Applies a workspace's patch with real git to a clean copy of the host's folder. */
  async function appliedTo(copy: string, plan: WorkspacePlan): Promise<string> {
    await run('cp', ['-a', '--', folder, copy])
    if (!(await readdir(copy)).includes('.git')) await git(['init', '--quiet'], { cwd: copy })
    await git(['add', '-A'], { cwd: copy })
    await git(['apply', '--index', '--binary', join(plan.slot.root, 'patch')], { cwd: copy })
    return await git(['write-tree'], { cwd: copy })
  }

  test('is there as it was, the task owns it, and nothing of what it does reaches the host', async () => {
    await sh(
      folder,
      `mkdir -p src/deep empty; echo one >src/deep/a; printf '#!/bin/sh' >run; chmod 755 run; chmod 640 src/deep/a
       ln -s src/deep/a link; ln -s /etc/hostname absolute; ln -s nowhere dangling; printf 'odd' >"$(printf 'o\\377 \\n')"
       touch -d 2001-02-03 run; chmod 555 src/deep`,
    )
    const before = await fingerprint(folder)
    const plan = await take()
    expect(plan.base).toEqual({ url: null, ref: null, commit: null })
    expect(plan.notes).toEqual([])
    await fixture.inside(plan, async repo => {
      const facts = `find . -mindepth 1 -type f -printf '%p %m %s %Ty-%Tm-%Td %TH:%TM\\n' -o -type l -printf '%p %l\\n' | sort`
      expect(await sh(repo, facts)).toBe(await sh(folder, facts))
      expect(await sh(repo, 'find . -printf "%U:%G\\n" | sort -u')).toBe('10001:10001\n')
      await sh(repo, 'echo two >src/deep/a; rm run; mv src moved; echo x >new; touch -h link; mkdir .git')
    })
    expect(await fingerprint(folder)).toBe(before)
  })

  test('its changes are those of git relative to the copy, and the patch applies to a clean copy', async () => {
    await sh(
      folder,
      `printf 'ignored\\n*.log\\n' >.gitignore; mkdir -p ignored dir/sub; echo 1 >ignored/f; echo 1 >a.log
       seq 50 >text; head -c 3000 /dev/urandom >bin; echo 1 >dir/one; echo 2 >dir/sub/two; ln -s text link; echo x >gone`,
    )
    const plan = await take()
    const byGit = await fixture.inside(plan, async repo => {
      await sh(
        repo,
        `sed -i 's/^25$/changed/' text; head -c 99 /dev/zero >>bin; mv dir moved; rm gone; ln -sf bin link; chmod +x text
         echo 2 >ignored/f; echo 2 >ignored/g; rm a.log; echo new >new`,
      )
      await git(['init', '--quiet'], { cwd: repo })
      return await treeByGit(repo, join(plan.slot.root, 'scratch'))
    })
    const { changes } = await captureOf(plan)
    expect(changes.files.map(({ status, path }) => `${status} ${path}`)).toEqual([
      'deleted repo/gone',
      'modified repo/bin',
      'modified repo/link',
      'renamed repo/moved/one',
      'renamed repo/moved/sub/two',
      'added repo/new',
      'modified repo/text',
    ])
    expect(changes.tree).toBe(byGit)
    expect(await appliedTo(join(plan.slot.root, 'clean'), plan)).toBe(byGit)
  })

  test('that nobody changed has no changes, and the tree of what lies there', async () => {
    await sh(folder, 'mkdir -p a/b; echo 1 >a/b/c; : >empty; ln -s empty link; ln -s c a/b/link')
    const plan = await take()
    const { changes, patch } = await captureOf(plan)
    expect({ files: changes.files, notes: changes.notes, patch }).toEqual({
      files: [],
      notes: [],
      patch: null,
    })
    const copy = join(plan.slot.root, 'clean')
    await run('cp', ['-a', '--', folder, copy])
    await git(['init', '--quiet'], { cwd: copy })
    await git(['add', '-A'], { cwd: copy })
    expect(changes.tree).toBe(await git(['write-tree'], { cwd: copy }))
  })

  test('a link and a file of the same bytes both go', async () => {
    await sh(folder, 'printf text >file; ln -s text link; echo 1 >text')
    const plan = await take()
    await fixture.inside(plan, repo => sh(repo, 'rm file link'))
    const { changes } = await captureOf(plan)
    expect(changes.files.map(file => file.path)).toEqual(['repo/file', 'repo/link'])
    await appliedTo(join(plan.slot.root, 'clean'), plan)
  })

  test('what was there and ignored is no change when the rules go, for it would not apply', async () => {
    await sh(folder, 'echo "*.log" >.gitignore; mkdir sub; echo 1 >a.log; echo 1 >sub/b.log')
    const plan = await take()
    await fixture.inside(plan, repo =>
      sh(repo, 'rm .gitignore; echo 2 >a.log; echo 2 >sub/b.log; echo 2 >c.log'),
    )
    const { changes } = await captureOf(plan)
    expect(changes.files.map(file => file.path)).toEqual(['repo/.gitignore', 'repo/c.log'])
    for (const path of ['a.log', 'sub/b.log'])
      expect(changes.notes.join('\n')).toContain(`repo/${path}: was there`)
    await appliedTo(join(plan.slot.root, 'clean'), plan)
  })

  describe('with a repository in it', () => {
    const COMMITTED = `git init -q -b main; git config user.name Host; git config user.email host@example.com
      echo '*.tmp' >.gitignore; echo 1 >a; echo 1 >kept.tmp; git add -Af; git commit -qm first; echo dirty >>a; echo 1 >new.tmp`

    test("HEAD is the base, its .git is the task's too, and commits are the task's own", async () => {
      await sh(folder, COMMITTED)
      const head = await git(['rev-parse', 'HEAD'], { cwd: folder })
      const plan = await take()
      expect(plan.base).toEqual({ url: null, ref: null, commit: head })
      const sha = await fixture.inside(plan, async repo => {
        expect(await git(['status', '--porcelain'], { cwd: repo })).toBe(' M a')
        expect(await git(['config', 'user.name'], { cwd: repo })).toBe('Ada "A" Lovelace')
        await sh(repo, 'echo 2 >kept.tmp; echo 2 >b')
        await git(['commit', '-qam', 'mine'], { cwd: repo })
        return await git(['rev-parse', 'HEAD'], { cwd: repo })
      })
      const { changes } = await captureOf(plan)
      expect(changes.files.map(({ status, path }) => `${status} ${path}`)).toEqual([
        'added repo/b',
        'modified repo/kept.tmp',
      ])
      expect(changes.commits).toMatchObject([{ sha, message: 'mine\n' }])
      expect(changes.tree).toBe(await appliedTo(join(plan.slot.root, 'clean'), plan))
    })

    test.each([
      ['packed', 'git gc -q', true],
      ['detached', 'git checkout -q --detach', true],
      [
        'with objects that lie elsewhere',
        'mv .git/objects ../../outside/objects; echo ../../../outside/objects >x',
        true,
      ],
      ['without a commit', 'rm -r .git; git init -q', false],
      ['with a HEAD that is a link', 'mv .git/HEAD .git/H; ln -s H .git/HEAD', false],
      ['with refs that are a link', 'mv .git/refs .git/r; ln -s r .git/refs', false],
      ['with a HEAD that leads out', 'echo "ref: refs/../../../outside/secret" >.git/HEAD', false],
      ['that is a link', 'mv .git git; ln -s git .git', false],
      ['that is a file', 'mv .git git; echo "gitdir: git" >.git', false],
      ['whose config is a link', 'rm .git/config; ln -s /etc/passwd .git/config', true],
      ['whose config is a FIFO', 'rm .git/config; mkfifo .git/config', true],
    ])('%s: it is only read, and what can not be told is null', async (_name, script, isTold) => {
      await sh(folder, COMMITTED)
      const head = await git(['rev-parse', 'HEAD'], { cwd: folder })
      await sh(folder, script)
      const before = await fingerprint(folder)
      const plan = await take()
      expect(plan.base.commit).toBe(isTold ? head : null)
      await fixture.inside(plan, repo => sh(repo, 'echo mine >mine'))
      const { changes } = await captureOf(plan)
      expect(changes.files.map(file => file.path)).toEqual(['repo/mine'])
      expect(changes.commits).toEqual([])
      expect(await fingerprint(folder)).toBe(before)
    })

    test('its hooks and programs are never run by the worker', async () => {
      const mark = join(outside, 'ran')
      await sh(
        folder,
        `${COMMITTED}; git config core.fsmonitor 'touch ${mark}'; git config filter.x.clean 'touch ${mark}; cat'
         echo '* filter=x' >.gitattributes; printf '#!/bin/sh\\ntouch ${mark}\\n' >.git/hooks/post-index-change; chmod +x .git/hooks/*`,
      )
      const plan = await take()
      await fixture.inside(plan, repo => sh(repo, 'echo 3 >a'))
      await captureOf(plan)
      expect(await readdir(outside)).toEqual(['secret'])
      await git(['status'], { cwd: folder })
      expect(await readdir(outside)).toEqual(['ran', 'secret'])
    })
  })

  test('read-only: the mount says so, .git is untouched, and there are no changes', async () => {
    await sh(folder, 'git init -q; echo 1 >a')
    const plan = await take(folder, { readOnly: true, files: [{ path: 'context/n', text: 'n' }] })
    expect(plan.readOnly).toBe(true)
    expect(await fixture.inside(plan, repo => sh(repo, 'cat .git/config'))).toBe(
      await readFile(join(folder, '.git/config'), 'utf8'),
    )
    expect(await captureOf(plan)).toMatchObject({ changes: { files: [] }, patch: null })
    expect(() =>
      accept(
        { type: 'host_directory', path: folder, readOnly: true },
        { files: [{ path: 'repo/n', text: '' }] },
      ),
    ).toThrow('workspace.source is readOnly')
  })

  test('files of the platform are placed over it, through no link of it, and are no changes', async () => {
    await sh(folder, `git init -q; mkdir sub; ln -s ${outside} link; ln -s secret file`)
    const placed = await take(folder, { files: [{ path: 'repo/sub/placed', text: 'placed' }] })
    await fixture.inside(placed, async repo => {
      expect(await readFile(join(repo, 'sub/placed'), 'utf8')).toBe('placed')
      expect(await git(['status', '--porcelain', 'sub'], { cwd: repo })).toBe('')
    })
    expect((await captureOf(placed)).changes.files).toEqual([])
    for (const path of ['repo/link/x', 'repo/file']) {
      const refused = take(folder, { files: [{ path, text: 'x' }] })
      await expect(refused).rejects.toMatchObject({ code: 'workspace.unsafe_tree' })
    }
    expect(await readdir(outside)).toEqual(['secret'])
  })

  test('FIFOs, sockets, devices and other file systems are left out with a note', async () => {
    await mkdir(join(folder, 'mounted'))
    await run('mount', ['-t', 'tmpfs', 'none', join(folder, 'mounted')])
    try {
      await sh(
        folder,
        'mkfifo fifo; mknod null c 1 3; mknod hidden c 0 0; echo 1 >a; echo 1 >mounted/inner; ln -s fifo link',
      )
      const plan = await take()
      expect(plan.notes.toSorted()).toEqual([
        'repo/fifo: a FIFO, left out',
        'repo/hidden: a device, left out',
        'repo/mounted: another file system is mounted there, left out',
        'repo/null: a device, left out',
      ])
      expect(await namesIn(plan)).toEqual(['a', 'link', 'mounted'])
      expect(await fixture.inside(plan, repo => readdir(join(repo, 'mounted')))).toEqual([])
      expect((await captureOf(plan)).changes.notes).toEqual(plan.notes)
      // The control: a copy by name takes devices along.
      await run('cp', ['-a', '--', folder, join(outside, 'naive')])
      expect((await stat(join(outside, 'naive/null'))).isCharacterDevice()).toBe(true)
    } finally {
      await run('umount', [join(folder, 'mounted')])
    }
  })

  test('set-id bits do not come along', async () => {
    await sh(folder, 'echo 1 >tool; chmod 6755 tool')
    const plan = await take()
    expect(await fixture.inside(plan, repo => sh(repo, 'stat -c %a tool'))).toBe('755\n')
  })

  describe('what leads out', () => {
    test.each<[string, string, string]>([
      ['a folder outside', '', '{outside}'],
      ['one that is not there', '', '{outside}/nothing'],
      ['the parent', '', '{app}/../..'],
      ['a way out and in again', '', '{root}/../allowed/app'],
      ['..', 'mkdir sub', '{app}/sub/../../../outside'],
      ['a link', 'ln -s {outside} out', '{app}/out'],
      ['a link to what is not there', 'ln -s {outside}/nothing out', '{app}/out'],
      ['a way through a link', 'ln -s {outside} out', '{app}/out/nothing'],
      ['a relative link', 'ln -s ../../outside out', '{app}/out'],
      ['a link to a link', 'ln -s two one; ln -s {outside} two', '{app}/one'],
      ['.. behind a link', 'ln -s . here', '{app}/here/../../outside'],
      ['a name that begins alike', '', '{root}-more'],
    ])('%s: one answer, there or not', async (_name, script, path) => {
      const places: Record<string, string> = { app: folder, root: root.real, outside }
      const fill = (text: string) => text.replace(/\{(\w+)\}/g, (_all, key: string) => places[key] ?? '')
      await sh(folder, fill(script) || 'true')
      const failure = await take(fill(path)).then(
        () => null,
        error => error,
      )
      expect(failure).toMatchObject({
        code: 'spec.forbidden',
        phase: 'workspace',
        message: `workspace.source.path ${JSON.stringify(fill(path))} is not below a folder that this worker's operator allows`,
        hint: expect.stringContaining('AGIRUNNER_HOST_ROOTS'),
      })
    })

    test.each<[string, string, string]>([
      ['nothing', '', 'app/nothing'],
      ['a file', 'echo 1 >file', 'app/file'],
      ['below a file', 'echo 1 >file', 'app/file/x'],
      ['a FIFO', 'mkfifo fifo', 'app/fifo'],
      ['a link in a circle', 'ln -s circle circle', 'app/circle'],
      ['a link to nothing inside', 'ln -s nothing link', 'app/link'],
      ['a name that is too long', '', `app/${'x'.repeat(300)}`],
    ])('%s inside is not found', async (_name, script, path) => {
      await sh(folder, script || 'true')
      await expect(take(join(root.real, path))).rejects.toMatchObject({ code: 'workspace.not_found' })
    })

    test('by either name of the root, the root itself, and by links that stay inside', async () => {
      await sh(
        folder,
        `echo 1 >a; ln -s ${folder} absolute; ln -s ${root.path}/app by-alias; ln -s ../app relative`,
      )
      for (const path of [
        'app',
        'app/absolute',
        'app/by-alias/relative',
        'app/../app',
        '/app//./relative/',
      ]) {
        for (const start of [root.path, root.real]) {
          const plan = await take(`${start}/${path}`)
          expect(await namesIn(plan)).toContain('a')
        }
      }
      const whole = await take(root.path)
      expect(await namesIn(whole)).toEqual(['app'])
    })

    test('nothing is allowed unless the operator does', async () => {
      const strict = fixture.room(strategy)
      const refused = strict.prepare(accept({ type: 'host_directory', path: folder }), QUIET)
      await expect(refused).rejects.toMatchObject({
        code: 'spec.forbidden',
        hint: expect.stringContaining('AGIRUNNER_HOST_ROOTS'),
      })
    })
  })

  describe("a link that takes a folder's place while it is copied", () => {
    /** `z` is there when the copy begins and a link when its turn comes: everything in `a` is copied before. */
    async function swapped<T>(copy: (started: () => void) => Promise<T>): Promise<T> {
      await sh(folder, 'mkdir a z; echo 1 >z/own; for i in $(seq 300); do echo $i >a/$i; done')
      let done = false
      const copied = await copy(() => {
        if (done) return
        done = true
        renameSync(join(folder, 'z'), join(folder, 'gone'))
        symlinkSync(outside, join(folder, 'z'))
      })
      expect(done).toBe(true)
      return copied
    }

    test('leads nowhere: the folder is copied as it was, or left out', async () => {
      const plan = await swapped(progress => take(folder, { progress }))
      const texts = await fixture.inside(plan, repo => sh(repo, 'find . -type f -exec cat {} +'))
      expect(texts).not.toContain(SECRET)
      expect(await namesIn(plan)).toContain('a')
    })

    test('leads out when it is copied by name: the control', async () => {
      const target = join(outside, 'naive')
      await swapped(async started => {
        const entries = await readdir(folder, { withFileTypes: true })
        started()
        for (const entry of entries.filter(one => one.isDirectory()))
          await run('cp', ['-a', '--', join(folder, entry.name, '.'), `${target}-${entry.name}`])
      })
      expect(await readFile(`${target}-z/secret`, 'utf8')).toBe(SECRET)
    })

    test('as the source itself is seen when it is opened', async () => {
      await mkdir(join(folder, 'sub'))
      const checked = await realpath(join(folder, 'sub'))
      expect(checked.startsWith(root.real)).toBe(true)
      await rm(checked, { recursive: true })
      await symlink(outside, checked)
      // The control: what was checked by name is another thing when the name is used.
      expect(await readFile(join(checked, 'secret'), 'utf8')).toBe(SECRET)
      await expect(take(checked)).rejects.toMatchObject({ code: 'spec.forbidden' })
    })
  })

  test('too many files or bytes are too large, and nothing is left', async () => {
    await sh(folder, 'for i in $(seq 20); do head -c 1000 /dev/zero >$i; done')
    for (const limits of [{ maxFiles: 10 }, { maxTreeBytes: 10_000 }]) {
      const small = fixture.room(strategy, { hostRoots: [root], limits })
      const refused = small.prepare(accept({ type: 'host_directory', path: folder }), QUIET)
      await expect(refused).rejects.toMatchObject({ code: 'workspace.too_large', phase: 'workspace' })
    }
  })

  test('a cancel ends the copy, with progress until then', async () => {
    await sh(folder, 'mkdir a; for i in $(seq 2000); do echo $i >a/$i; done')
    const controller = new AbortController()
    const told: Record<string, unknown>[] = []
    const copying = room.prepare(accept({ type: 'host_directory', path: folder }), {
      signal: controller.signal,
      progress: data => {
        told.push(data)
        controller.abort(new Error('canceled'))
      },
    })
    await expect(copying).rejects.toThrow('canceled')
    expect(told[0]).toMatchObject({ stage: 'copy', files: 0, bytes: 0 })
  })
})
