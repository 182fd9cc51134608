import { lstat, readdir, readFile, readlink, rm, stat } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createRepository, git, manyFiles, type Repository } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import type { Workspaces } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { accept, QUIET, WITHOUT_DISKS, WorkspaceFixture } from './workspace-fixture.js'

/** Every file below a folder with what git cares about: kind, executable or not, content. */
async function listing(root: string, folder = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const name of await readdir(join(root, folder))) {
    const path = join(folder, name)
    if (path === '.git') continue
    const at = await lstat(join(root, path))
    if (at.isDirectory()) Object.assign(found, await listing(root, path))
    else if (at.isSymbolicLink()) found[path] = `-> ${await readlink(join(root, path))}`
    else found[path] = `${(at.mode & 0o777).toString(8)} ${await readFile(join(root, path), 'base64')}`
  }
  return found
}

describe.each(WITHOUT_DISKS)('a workspace, %s', strategy => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  /** As an operator has it who allowed nothing. */
  let strict: Workspaces
  let repository: Repository
  let url: string

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    room = fixture.room(strategy)
    strict = fixture.room(strategy, { allowPrivate: false })
    url = `${fixture.server.url}/demo.git`
    repository = await createRepository({
      root: fixture.root,
      name: 'demo',
      build: async builder => {
        await builder.write({
          ...manyFiles(120),
          'run.sh': { content: 'true\n', mode: 0o755 },
          link: { symlink: 'run.sh' },
          dangling: { symlink: '/nowhere/at/all' },
          'odd \u00f6 "\n\t': 'odd',
          empty: '',
          'deep/er/and/deeper/file': Buffer.from([0, 255, 10, 13]),
        })
        await builder.commit('one')
        await builder.tag('annotated', 'a tag with a message')
        await builder.tag('light')
        await builder.write({ second: '2\n' })
        await builder.commit('two')
        await builder.branch('feature/x')
        await builder.write({ third: '3\n' })
        await builder.commit('three')
        await builder.git(['update-ref', 'refs/pull/7/head', 'HEAD~1'])
        await builder.checkout('main')
      },
    })
    await repository.git(['symbolic-ref', 'HEAD', 'refs/heads/main'])
  })
  afterEach(async () => expect(await fixture.leftovers()).toEqual([]))
  afterAll(() => fixture.close())

  const prepare = (source: Record<string, unknown>, profile: 'user' | 'root' = 'user') =>
    room.prepare(accept({ url, ...source }, { profile }), QUIET)

  /** What a person at the workspace's git sees. */
  async function expectLikeClone(plan: WorkspacePlan, commit: string): Promise<void> {
    const clone = join(plan.slot.root, 'clone')
    await git(['clone', '--quiet', repository.path, clone])
    await git(['checkout', '--quiet', commit], { cwd: clone })
    await fixture.inside(plan, async repo => {
      const inRepo = (...args: string[]) => git(args, { cwd: repo })
      expect(await inRepo('status', '--porcelain')).toBe('')
      // A plain refresh must find nothing to read either: what the index says of the files is true.
      expect(await inRepo('diff-files', '--name-only')).toBe('')
      expect(await inRepo('fsck', '--strict', '--full')).toBe('')
      expect(await inRepo('rev-parse', 'HEAD')).toBe(commit)
      expect(await inRepo('write-tree')).toBe(await git(['rev-parse', `${commit}^{tree}`], { cwd: clone }))
      expect(await listing(repo)).toEqual(await listing(clone))
      expect(await inRepo('config', 'user.name')).toBe('Ada "A" Lovelace')
      const { uid, gid } = await stat(repo)
      expect({ uid, gid }).toEqual(plan.owner)
    })
  }

  const one = () => repository.commits[0] ?? ''
  const two = () => repository.commits[1] ?? ''
  const three = () => repository.commits[2] ?? ''

  test.each<[string, () => Record<string, unknown>, string | null, () => string]>([
    ['the default branch', () => ({}), 'refs/heads/main', two],
    ['a branch', () => ({ ref: 'feature/x' }), 'refs/heads/feature/x', three],
    ['a full ref', () => ({ ref: 'refs/heads/main' }), 'refs/heads/main', two],
    ['an annotated tag', () => ({ ref: 'annotated' }), 'refs/tags/annotated', one],
    ['a light tag', () => ({ ref: 'light' }), 'refs/tags/light', one],
    ['a pull request', () => ({ ref: 'refs/pull/7/head' }), 'refs/pull/7/head', two],
    ['a commit as ref', () => ({ ref: three() }), null, three],
    ['the beginning of a commit', () => ({ ref: three().slice(0, 9) }), null, three],
    ['a commit', () => ({ commit: two() }), null, two],
    ['a commit over a ref', () => ({ commit: one(), ref: 'main' }), null, one],
    ['a commit that no ref names', () => ({ ref: one() }), null, one],
    ['some history', () => ({ ref: 'feature/x', depth: 2 }), 'refs/heads/feature/x', three],
    ['all history', () => ({ ref: 'main', depth: 0 }), 'refs/heads/main', two],
  ])('%s is checked out as git would', async (_name, source, ref, commit) => {
    const plan = await prepare(source())
    expect(plan.base).toEqual({ url, ref, commit: commit() })
    await expectLikeClone(plan, commit())
    await plan.release()
    await plan.release()
  })

  test('a branch is a branch with its remote twin, a tag is a tag, the rest is detached', async () => {
    const seen = async (source: Record<string, unknown>) => {
      const plan = await prepare(source)
      const answer = await fixture.inside(plan, async repo => [
        await git(['status', '--branch', '--porcelain=v1'], { cwd: repo }),
        await git(['rev-list', '--count', 'HEAD'], { cwd: repo }),
        await git(['tag'], { cwd: repo }),
      ])
      await plan.release()
      return answer
    }
    expect(await seen({ ref: 'feature/x' })).toEqual(['## feature/x...origin/feature/x', '1', ''])
    expect(await seen({ ref: 'feature/x', depth: 2 })).toEqual(['## feature/x...origin/feature/x', '2', ''])
    expect(await seen({ ref: 'feature/x', depth: 0 })).toEqual(['## feature/x...origin/feature/x', '3', ''])
    expect(await seen({ ref: 'annotated' })).toEqual(['## HEAD (no branch)', '1', 'annotated'])
    expect(await seen({ commit: two() })).toEqual(['## HEAD (no branch)', '1', ''])
  })

  test('the root profile owns its workspace as root', async () => {
    const plan = await prepare({ commit: two() }, 'root')
    expect(plan.owner).toEqual({ uid: 0, gid: 0 })
    await expectLikeClone(plan, two())
    await plan.release()
  })

  test('the known commit needs no network, and tasks see nothing of one another', async () => {
    const first = await prepare({ commit: three() })
    const asked = fixture.server.requests.length
    const second = await prepare({ commit: three() })
    expect(fixture.server.requests.length).toBe(asked)
    await fixture.inside(first, async repo => {
      await git(['rm', '-rq', '.'], { cwd: repo })
      await git(['commit', '-qm', 'all gone'], { cwd: repo })
    })
    await expectLikeClone(second, three())
    await first.release()
    await second.release()
  })

  test('many at once share one fetch', async () => {
    await repository.change(async builder => {
      await builder.write({ more: 'more\n' })
      await builder.commit('four')
    })
    const before = fixture.server.requests.length
    const plans = await Promise.all(Array.from({ length: 8 }, () => prepare({ commit: repository.head })))
    const posts = fixture.server.requests.slice(before).filter(({ method }) => method === 'POST')
    expect(posts).toHaveLength(1)
    await Promise.all(plans.map(plan => plan.release()))
  })

  test('context, output and files are where the contract says, and no link of the repository is followed', async () => {
    const files = [
      { path: 'context/notes/n.md', text: 'notes' },
      { path: 'output/seed', base64: Buffer.from([1, 2, 3]).toString('base64'), mode: '0600' },
      { path: 'repo/deep/er/placed', text: 'placed', mode: '0755' },
    ]
    const plan = await room.prepare(accept({ url, commit: two() }, { files }), QUIET)
    const read = (path: string) => readFile(join(plan.slot.root, path), 'utf8')
    expect(await read('context/notes/n.md')).toBe('notes')
    expect(JSON.parse(await read('context/task.json'))).toMatchObject({ taskId: expect.any(String) })
    expect(JSON.parse(await read('context/input.json'))).toBeNull()
    expect((await stat(join(plan.slot.output, 'seed'))).mode & 0o777).toBe(0o600)
    expect((await stat(plan.slot.output)).uid).toBe(plan.owner.uid)
    await fixture.inside(plan, async repo => {
      expect((await stat(join(repo, 'deep/er/placed'))).mode & 0o777).toBe(0o755)
      expect((await readdir(join(repo, 'deep/er'))).sort()).toEqual(['and', 'placed'])
      expect(await git(['status', '--porcelain'], { cwd: repo })).toBe('')
    })
    await plan.release()
    for (const path of ['repo/link', 'repo/link/x', 'repo/dangling/x', 'repo/deep', 'repo/empty/x']) {
      const task = accept({ url, commit: two() }, { files: [{ path, text: 'x' }] })
      await expect(room.prepare(task, QUIET)).rejects.toMatchObject({ code: 'workspace.unsafe_tree' })
    }
  })

  test('an empty remote gives an empty repository, with the remote set', async () => {
    await git(['init', '--quiet', '--bare', join(fixture.root, 'empty.git')])
    const plan = await prepare({ url: `${fixture.server.url}/empty.git` })
    expect(plan.base.commit).toBeNull()
    await fixture.inside(plan, async repo => {
      expect(await git(['remote', 'get-url', 'origin'], { cwd: repo })).toBe(
        `${fixture.server.url}/empty.git`,
      )
      await git(['commit', '--quiet', '--allow-empty', '-m', 'first'], { cwd: repo })
    })
    await plan.release()
    const missing = prepare({ url: `${fixture.server.url}/empty.git`, ref: 'main' })
    await expect(missing).rejects.toMatchObject({ code: 'workspace.ref_not_found' })
  })

  test('a half-made or broken snapshot is made again', async () => {
    const plan = await prepare({ commit: one() })
    await rm(join(plan.layers.lower, '.git/HEAD'))
    await plan.release()
    const again = await prepare({ commit: one() })
    await expectLikeClone(again, one())
    await again.release()
  })

  test('a cancel ends a fetch at once and leaves nothing', async () => {
    const silent = createServer(() => undefined)
    await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
    const controller = new AbortController()
    const at = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/x.git`
    const asked = new Promise(resolve => silent.once('request', resolve))
    const preparing = room.prepare(accept({ url: at }), { ...QUIET, signal: controller.signal })
    await asked
    controller.abort(new Error('canceled'))
    await expect(preparing).rejects.toThrow('canceled')
    silent.closeAllConnections()
    silent.close()
  })

  test.each<[string, Record<string, unknown>, string]>([
    ['an unknown ref', { ref: 'nope' }, 'workspace.ref_not_found'],
    ['an unknown short commit', { ref: '1234567' }, 'workspace.ref_not_found'],
    ['an unknown commit', { commit: '1'.repeat(40) }, 'workspace.commit_not_found'],
    ['an unknown host', { url: 'http://no-such-host.invalid/x.git' }, 'workspace.remote_unreachable'],
    ['a closed port', { url: 'http://127.0.0.1:9/x.git' }, 'workspace.remote_unreachable'],
    ['a metadata address', { url: 'http://169.254.169.254/x.git' }, 'workspace.url_forbidden'],
    ['one in disguise', { url: 'http://[::ffff:169.254.169.254]/x.git' }, 'workspace.url_forbidden'],
  ])('%s is told as such', async (_name, source, code) => {
    await expect(prepare(source)).rejects.toMatchObject({ code, phase: 'workspace' })
  })

  test('an unknown repository is told as such', async () => {
    const missing = prepare({ url: `${fixture.server.url}/missing.git` })
    await expect(missing).rejects.toMatchObject({ code: 'workspace.not_found' })
  })

  test.each([
    'http://127.0.0.1:1/x',
    'http://localhost:1/x',
    'http://[::1]:1/x',
    'http://10.1.2.3/x',
    'http://2130706433/x',
  ])('%s is refused unless the operator allows it', async at => {
    await expect(strict.prepare(accept({ url: at }), QUIET)).rejects.toMatchObject({
      code: 'workspace.url_forbidden',
    })
  })
})

describe('a git server that asks for credentials', () => {
  let fixture: WorkspaceFixture
  const password = 's3cret-t0ken'

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create({ username: 'someone', password })
    await createRepository({ root: fixture.root, name: 'demo', files: { a: 'a\n' } })
  })
  afterAll(() => fixture.close())

  test('gets them, and they are nowhere in the workspace', async () => {
    const room = fixture.room('copy')
    const url = `${fixture.server.url}/demo.git`
    const plan = await room.prepare(accept({ url }, { password }), QUIET)
    const texts = JSON.stringify([plan, await readFile(join(plan.slot.root, 'repo/.git/config'), 'utf8')])
    for (const form of [password, Buffer.from(`someone:${password}`).toString('base64')]) {
      expect(texts).not.toContain(form)
    }
    await plan.release()
  })

  test.each([undefined, 'wrong'])(
    '%s instead is auth_failed, also when the snapshot is there',
    async wrong => {
      const room = fixture.room('copy')
      const options = wrong === undefined ? {} : { password: wrong }
      const preparing = room.prepare(accept({ url: `${fixture.server.url}/demo.git` }, options), QUIET)
      await expect(preparing).rejects.toMatchObject({ code: 'workspace.auth_failed' })
    },
  )
})

const QUICK = {
  connectMs: 500,
  firstByteMs: 500,
  idleMs: 500,
  totalMs: 10_000,
  maxFetchBytes: 2 ** 20,
  maxFiles: 5_000,
}

describe('a hostile server', () => {
  let fixture: WorkspaceFixture
  let room: Workspaces
  let hostile: Server | null = null

  beforeAll(async () => {
    fixture = await WorkspaceFixture.create()
    room = fixture.room('copy', { limits: QUICK })
  })
  afterEach(async () => {
    hostile?.closeAllConnections()
    hostile?.close()
    expect(await fixture.leftovers()).toEqual([])
  })
  afterAll(() => fixture.close())

  async function serve(answer: RequestListener): Promise<string> {
    const server = createServer(answer)
    hostile = server
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/x.git`
  }

  const ADVERTISEMENT = { 'content-type': 'application/x-git-upload-pack-advertisement' }

  test.each<[string, RequestListener, string]>([
    ['401', (_request, response) => void response.writeHead(401).end(), 'workspace.auth_failed'],
    ['403', (_request, response) => void response.writeHead(403).end(), 'workspace.auth_failed'],
    ['404', (_request, response) => void response.writeHead(404).end(), 'workspace.not_found'],
    ['500', (_request, response) => void response.writeHead(500).end(), 'workspace.remote_broken'],
    ['HTML', (_request, response) => void response.end('<html>hello</html>'), 'workspace.remote_broken'],
    [
      'nothing',
      (_request, response) => void response.writeHead(200, ADVERTISEMENT).end(),
      'workspace.remote_broken',
    ],
    ['no answer', () => undefined, 'workspace.timeout'],
    ['a hang-up', request => void request.socket.destroy(), 'workspace.remote_broken'],
    [
      'a redirect to metadata',
      (_request, response) => void response.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
      'workspace.url_forbidden',
    ],
    [
      'a redirect to a file',
      (_request, response) => void response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
      'workspace.url_forbidden',
    ],
    [
      'a redirect to itself',
      (request, response) => void response.writeHead(302, { location: request.url }).end(),
      'workspace.remote_broken',
    ],
    [
      'half an answer',
      (_request, response) => void response.writeHead(200, ADVERTISEMENT).write('001e# service'),
      'workspace.timeout',
    ],
    [
      'an answer without end',
      (_request, response) => {
        response.writeHead(200, ADVERTISEMENT)
        const flood = () => {
          while (response.write(Buffer.alloc(65536, '0'))) if (response.destroyed) return
        }
        response.on('drain', flood)
        flood()
      },
      'workspace.too_large',
    ],
  ])('that gives %s', async (_name, answer, code) => {
    const url = await serve(answer)
    await expect(room.prepare(accept({ url }), QUIET)).rejects.toMatchObject({ code, phase: 'workspace' })
  })

  const blob = (repository: Repository, text: string) => write(repository, 'blob', Buffer.from(text))
  const write = async (repository: Repository, type: string, data: Buffer) =>
    await git(['hash-object', '-t', type, '-w', '--literally', '--stdin'], {
      cwd: repository.path,
      input: data,
    })
  const entry = (mode: string, name: string, oid: string) =>
    Buffer.concat([Buffer.from(`${mode} ${name}\0`, 'latin1'), Buffer.from(oid, 'hex')])

  let trees = 0
  /** Serves a commit of a tree that no git would make. */
  async function commitOf(make: (repository: Repository, oid: string) => Promise<Buffer>) {
    trees += 1
    const repository = await createRepository({
      root: fixture.root,
      name: `bad-${trees}`,
      files: { a: 'a\n' },
    })
    const tree = await write(repository, 'tree', await make(repository, await blob(repository, 'evil')))
    const commit = await git(['commit-tree', tree, '-m', 'bad'], { cwd: repository.path })
    await repository.git(['update-ref', 'refs/heads/main', commit])
    return { url: `${fixture.server.url}/bad-${trees}.git`, ref: 'main' }
  }

  test.each([
    '..',
    '.',
    '.git',
    '.GIT',
    '.Git ',
    '.git.',
    'git~1',
    '.git::$INDEX_ALLOCATION',
    '.g\u00e2\u0080\u008cit',
    'a\\.git',
    'x/../../y',
    'x'.repeat(256),
  ])('a tree with an entry %j is refused', async name => {
    const source = await commitOf(async (_repository, oid) => entry('100644', name, oid))
    await expect(room.prepare(accept(source), QUIET)).rejects.toMatchObject({ code: 'workspace.unsafe_tree' })
  })

  test('a link and a path through it are refused', async () => {
    const source = await commitOf(async (repository, oid) => {
      const link = await blob(repository, '/var/tmp')
      const below = await write(repository, 'tree', entry('100644', 'pwned', oid))
      return Buffer.concat([entry('120000', 'a', link), entry('40000', 'a', below)])
    })
    await expect(room.prepare(accept(source), QUIET)).rejects.toMatchObject({ code: 'workspace.unsafe_tree' })
  })

  test('a tree that unfolds without end is too large', async () => {
    const source = await commitOf(async (repository, oid) => {
      let tree = entry('100644', 'f', oid)
      for (let level = 0; level < 9; level += 1) {
        const below = await write(repository, 'tree', tree)
        tree = Buffer.concat(Array.from({ length: 10 }, (_, index) => entry('40000', `d${index}`, below)))
      }
      return tree
    })
    await expect(room.prepare(accept(source), QUIET)).rejects.toMatchObject({ code: 'workspace.too_large' })
  })

  test('a submodule is an empty folder', async () => {
    const source = await commitOf(async (_repository, oid) =>
      Buffer.concat([entry('100644', 'a', oid), entry('160000', 'sub', '2'.repeat(40))]),
    )
    const overlay = fixture.room('overlay_volume')
    const plan = await overlay.prepare(accept(source), QUIET)
    await fixture.inside(plan, async repo => {
      expect(await readdir(join(repo, 'sub'))).toEqual([])
      expect(await git(['status', '--porcelain'], { cwd: repo })).toBe('')
    })
    await plan.release()
  })
})
