import { createHash } from 'node:crypto'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createRepository, type Files, git, type Repository } from '@agirunner/test-kit'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createChangesCapture } from '../capture/changes/index.js'
import { Secret } from '../support/secret.js'
import type { Workspaces } from '../workspace/index.js'
import { captureAndDeliver, fetchBundle } from './delivery-fixture.js'
import { shellIn } from './shell.js'
import { accept, QUIET, treeByGit, WITHOUT_DISKS, WorkspaceFixture } from './workspace-fixture.js'

const FILES: Files = {
  'a.txt': 'a\n',
  'dir/one.txt': 'one\n',
  'dir/deep/two.txt': 'two\n',
  'run.sh': { content: 'true\n', mode: 0o755 },
  link: { symlink: 'a.txt' },
  'c.bin': Buffer.from([0, 1, 2, 255, 10, 0]),
}
const CREATED = '2026-02-03T04:05:06.789Z'

const CASES: Readonly<Record<string, string>> = {
  text: 'echo more >>a.txt',
  'new files, folders and bytes': "mkdir -p n/e/w; echo 1 >n/e/w/f; printf 'a\\0b' >n.bin; : >empty",
  'modes and links': 'chmod +x a.txt; chmod -x run.sh; ln -sfn dir/one.txt link; ln -s /etc/shadow away',
  'moved and copied': 'git mv dir moved; cp moved/one.txt copy.txt',
  'folder replaced by a file': 'rm -r dir; echo file >dir',
  'all gone': 'git rm -rqf .',
  'committed and more': 'echo x >>a.txt; git commit -qam one; echo y >>a.txt; echo new >new.txt',
}

describe.each(WITHOUT_DISKS)('a change as a commit, %s', strategy => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  let repository: Repository
  let clones = 0
  const capture = createChangesCapture()

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    repository = await createRepository({ root: fixture.root, name: 'demo', files: FILES })
    room = fixture.room(strategy)
  })
  afterAll(async () => {
    const left = await fixture.leftovers()
    await capture.close()
    await fixture.close()
    expect(left).toEqual([])
  })

  const source = () => ({ url: `${fixture.server.url}/demo.git`, commit: repository.head })
  const cloneOf = async () => {
    clones += 1
    const clone = join(fixture.root, `clone-${clones}`)
    await git(['clone', '--quiet', repository.path, clone])
    return clone
  }

  test.each(Object.entries(CASES))('%s', async (_name, script) => {
    const accepted = accept(source(), { capture: { changes: 'commit' }, createdAt: CREATED })
    const plan = await room.prepare(accepted, QUIET)
    try {
      const byGit = await fixture.inside(plan, async repo => {
        await shellIn(repo, script)
        return await treeByGit(repo, join(plan.slot.root, 'scratch'))
      })
      const { outputs, folder } = await captureAndDeliver({ room, capture, accepted, plan })
      const { changes } = outputs
      const bundle = join(folder, 'changes.bundle')
      expect(changes).toMatchObject({
        tree: byGit,
        commit: expect.stringMatching(/^[0-9a-f]{40}$/),
        pushed: null,
      })
      const bytes = await readFile(bundle)
      expect(changes?.bundle).toEqual({
        uri: `file://${bundle}`,
        sizeBytes: bytes.length,
        sha256: createHash('sha256').update(bytes).digest('hex'),
      })
      const clone = await cloneOf()
      expect(await fetchBundle(clone, bundle)).toBe(changes?.commit)
      const said = await git(['show', '-s', '--format=%T|%P|%an|%ae|%cn|%ce|%at|%ct|%B', 'FETCH_HEAD'], {
        cwd: clone,
      })
      const seconds = Math.floor(Date.parse(CREATED) / 1000)
      const who = 'Ada "A" Lovelace|ada@example.com'
      const { taskId } = accepted.task
      expect(said.trim()).toBe(
        `${byGit}|${repository.head}|${who}|${who}|${seconds}|${seconds}|Changes of task ${taskId}`,
      )
      expect(await git(['bundle', 'list-heads', bundle])).toBe(
        `${changes?.commit} refs/heads/agirunner/${taskId}\n${changes?.commit} HEAD`,
      )
    } finally {
      await plan.release()
    }
  })

  test('the same files make the same commit, whichever attempt it is', async () => {
    const accepted = accept(source(), { capture: { changes: 'commit' }, createdAt: CREATED })
    const commits: unknown[] = []
    for (const attempt of [1, 2]) {
      const plan = await room.prepare({ ...accepted, attempt, startedAt: new Date().toISOString() }, QUIET)
      try {
        await fixture.inside(plan, repo => shellIn(repo, 'echo same >same.txt'))
        const { outputs } = await captureAndDeliver({
          room,
          capture,
          accepted: { ...accepted, attempt },
          plan,
        })
        commits.push(outputs.changes?.commit)
      } finally {
        await plan.release()
      }
    }
    expect(commits[0]).toMatch(/^[0-9a-f]{40}$/)
    expect(commits[1]).toBe(commits[0])
  })

  test('nothing changed: no commit, and a note', async () => {
    const accepted = accept(source(), { capture: { changes: 'commit' } })
    const plan = await room.prepare(accepted, QUIET)
    try {
      const { outputs, folder } = await captureAndDeliver({ room, capture, accepted, plan })
      expect(outputs.changes).toMatchObject({ commit: null, bundle: null, patch: null })
      expect(outputs.changes?.notes).toEqual(['nothing changed, so there is no commit'])
      await expect(stat(join(folder, 'changes.bundle'))).rejects.toThrow('ENOENT')
    } finally {
      await plan.release()
    }
  })

  test('of an empty source it is a root commit, and the bundle can be cloned', async () => {
    const accepted = accept({ type: 'empty' }, { capture: { changes: 'commit' }, createdAt: CREATED })
    const plan = await room.prepare(accepted, QUIET)
    try {
      await fixture.inside(plan, repo => shellIn(repo, 'mkdir d; echo 1 >d/f; echo 2 >g'))
      const { outputs, folder } = await captureAndDeliver({ room, capture, accepted, plan })
      clones += 1
      const clone = join(fixture.root, `clone-${clones}`)
      await git(['clone', '--quiet', join(folder, 'changes.bundle'), clone])
      expect(await git(['rev-list', '--parents', 'HEAD'], { cwd: clone })).toBe(outputs.changes?.commit)
      expect(await readFile(join(clone, 'd/f'), 'utf8')).toBe('1\n')
    } finally {
      await plan.release()
    }
  })

  test('of a folder of the host, the folder is a commit as well', async () => {
    const folder = join(fixture.root, `host-${strategy}`)
    await mkdir(join(folder, 'sub'), { recursive: true })
    await writeFile(join(folder, 'a.txt'), 'a\n')
    await writeFile(join(folder, 'sub/b.txt'), 'b\n')
    const hosted = fixture.room(strategy, { hostRoots: [{ path: folder, real: folder }] })
    const accepted = accept(
      { type: 'host_directory', path: folder },
      { capture: { changes: 'commit' }, createdAt: CREATED },
    )
    const plan = await hosted.prepare(accepted, QUIET)
    try {
      await fixture.inside(plan, repo => shellIn(repo, 'echo more >>a.txt; mv sub moved'))
      const { outputs, folder: stored } = await captureAndDeliver({ room: hosted, capture, accepted, plan })
      clones += 1
      const clone = join(fixture.root, `clone-${clones}`)
      await git(['clone', '--quiet', join(stored, 'changes.bundle'), clone])
      expect(await git(['log', '--format=%s'], { cwd: clone })).toBe(
        `Changes of task ${accepted.task.taskId}\nBefore the task`,
      )
      expect(await git(['rev-parse', 'HEAD^{tree}'], { cwd: clone })).toBe(outputs.changes?.tree)
      expect(await git(['diff', '--name-status', '-M', 'HEAD^', 'HEAD'], { cwd: clone })).toBe(
        'M\ta.txt\nR100\tsub/b.txt\tmoved/b.txt',
      )
    } finally {
      await plan.release()
    }
  })

  test('a commit that holds a secret is withheld, wherever in it and however it is written', async () => {
    const secret = 's3cr3t-of-the-task-0123'
    const inBase64 = Buffer.from(secret).toString('base64')
    for (const script of [
      `printf '\\0%s' '${inBase64}' >x.bin`,
      `echo 1 >'${secret}'`,
      `ln -s ${secret} l`,
    ]) {
      const plain = accept(source(), { capture: { changes: 'commit' } })
      const registryCredentials = { username: 'u', password: new Secret(secret) }
      const [withSecret, control] = [{ ...plain, registryCredentials }, plain]
      for (const accepted of [withSecret, control]) {
        const plan = await room.prepare(accepted, QUIET)
        try {
          await fixture.inside(plan, repo => shellIn(repo, script))
          const { outputs } = await captureAndDeliver({ room, capture, accepted, plan })
          expect(outputs.changes?.commit === null).toBe(accepted === withSecret)
          expect(outputs.changes?.bundle === null).toBe(accepted === withSecret)
          expect(outputs.changes?.notes.join().includes('secrets')).toBe(accepted === withSecret)
        } finally {
          await plan.release()
        }
      }
    }
  })
})
