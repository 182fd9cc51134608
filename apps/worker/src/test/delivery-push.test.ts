import { chmod, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { TaskFailure } from '@agirunner/contracts'
import { createRepository, type GitServer, git, type Repository, serveGit } from '@agirunner/test-kit'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { createChangesCapture } from '../capture/changes/index.js'
import type { AcceptedTask } from '../intake/accepted-task.js'
import { Secret } from '../support/secret.js'
import type { Workspaces } from '../workspace/index.js'
import type { WorkspacePlan } from '../workspace/plan.js'
import { captureAndDeliver, type DeliveryOptions } from './delivery-fixture.js'
import { type PushProxy, startPushProxy } from './push-proxy.js'
import { shellIn } from './shell.js'
import { accept, QUIET, WITHOUT_DISKS, WorkspaceFixture } from './workspace-fixture.js'

const CREATED = '2026-02-03T04:05:06Z'
const PASSWORD = 'pass-word-of-the-remote/+1'
const AUTH = { username: 'someone', password: PASSWORD }
let fixture: WorkspaceFixture
/** Asks for credentials, for all that it is asked. */
let server: GitServer
let room: Workspaces
let repository: Repository
let proxy: PushProxy
let names = 0
const capture = createChangesCapture()

beforeAll(async () => {
  fixture = await WorkspaceFixture.create()
  server = await serveGit({ root: fixture.root, auth: AUTH })
  room = fixture.room('overlay_volume')
})
afterAll(async () => {
  const left = await fixture.leftovers()
  await capture.close()
  await server.close()
  await fixture.close()
  expect(left).toEqual([])
})
beforeEach(async () => {
  names += 1
  repository = await createRepository({
    root: fixture.root,
    name: `demo-${names}`,
    build: async builder => {
      for (const text of ['zero', 'one', 'two']) {
        await builder.write({ 'a.txt': `${text}\n`, 'dir/b.txt': 'b\n' })
        await builder.commit(text)
      }
    },
  })
  proxy = await startPushProxy(server.url)
})
afterEach(() => proxy.close())

interface Push {
  branch?: string
  message?: string
  commits?: 'squash' | 'keep'
  force?: boolean
}

function taskOf(push: Push, depth = 1): AcceptedTask {
  const source = {
    url: `${proxy.url}/demo-${names}.git`,
    ref: 'main',
    depth,
    credentials: { username: AUTH.username, password: { secretRef: 'env:GIT' } },
  }
  return accept(source, {
    capture: { push: { branch: 'agent/work', ...push } },
    password: PASSWORD,
    createdAt: CREATED,
  })
}

interface RunOptions extends Partial<DeliveryOptions> {
  /** What the task does to its repository. */
  readonly script?: string
  /** Looks at the workspace before it is captured. */
  readonly look?: (plan: WorkspacePlan) => Promise<void>
}

async function run(accepted: AcceptedTask, options: RunOptions = {}) {
  const { script = 'echo more >>a.txt', look } = options
  const place = options.room ?? room
  const plan = await place.prepare(accepted, QUIET)
  try {
    await fixture.inside(plan, repo => shellIn(repo, script))
    await look?.(plan)
    return await captureAndDeliver({ room: place, capture, accepted, plan, ...options })
  } finally {
    await plan.release()
  }
}

const onServer = (...args: string[]) => repository.git(args)
const branches = () => onServer('for-each-ref', '--format=%(refname) %(objectname)')
const hook = async (name: string, script: string) => {
  await writeFile(join(repository.path, 'hooks', name), `#!/bin/sh\n${script}\n`)
  await chmod(join(repository.path, 'hooks', name), 0o755)
}

describe.each(WITHOUT_DISKS)('a push, %s', strategy => {
  let place: Workspaces
  beforeAll(() => {
    place = fixture.room(strategy)
  })

  test('squash: one commit with what was captured, by the task’s identity', async () => {
    const accepted = taskOf({ message: 'Do it\n\nWith care.' })
    const script = 'echo x >>a.txt; git commit -qam mine; echo new >new.txt; rm -r dir'
    const { outputs, failure } = await run(accepted, { script, room: place })
    expect(failure).toBeNull()
    const { pushed, tree, commit, bundle } = outputs.changes ?? {}
    expect([commit, bundle]).toEqual([null, null])
    expect(pushed).toEqual({ branch: 'agent/work', sha: await onServer('rev-parse', 'agent/work') })
    const said = await onServer('show', '-s', '--format=%T|%P|%an|%ce|%ct|%B', 'agent/work')
    const at = Date.parse(CREATED) / 1000
    expect(said.trim()).toBe(
      `${tree}|${repository.head}|Ada "A" Lovelace|ada@example.com|${at}|Do it\n\nWith care.`,
    )
    await onServer('fsck', '--strict', '--no-dangling')
  })

  test('keep: the task’s own commits, and one more for the rest', async () => {
    const accepted = taskOf({ commits: 'keep', message: 'The rest' })
    const script = `
      git checkout -qb side; echo s >side.txt; git add .; git -c user.name=Sid commit -qm side
      git checkout -q main; echo x >>a.txt; git commit -qam mine; git merge -q --no-edit side
      git mv dir moved; git commit -qm moved; git gc -q; echo new >new.txt`
    const { outputs, failure } = await run(accepted, { script, room: place })
    expect(failure).toBeNull()
    const sha = await onServer('rev-parse', 'agent/work')
    expect(outputs.changes?.pushed).toEqual({ branch: 'agent/work', sha })
    expect(await onServer('rev-parse', `${sha}^{tree}`)).toBe(outputs.changes?.tree)
    expect(await onServer('log', '--first-parent', '--format=%s', `${repository.head}..${sha}`)).toBe(
      "The rest\nmoved\nMerge branch 'side'\nmine",
    )
    expect(await onServer('log', '--format=%an', '--author=Sid', sha)).toBe('Sid')
    await onServer('fsck', '--strict', '--no-dangling')
  })

  test('keep: nothing is left to commit, so the branch is the task’s HEAD', async () => {
    const { outputs } = await run(taskOf({ commits: 'keep' }), {
      script:
        'echo x >>a.txt; git commit -qam one; git checkout -q --detach; echo y >>a.txt; git commit -qam two',
      room: place,
    })
    expect(outputs.changes?.pushed?.sha).toBe(outputs.changes?.commits.at(-1)?.sha)
    expect(await onServer('log', '--format=%s', `${repository.head}..agent/work`)).toBe('two\none')
  })

  test('keep without a commit of the task’s is one commit', async () => {
    const { outputs } = await run(taskOf({ commits: 'keep' }), { room: place })
    expect(await onServer('rev-parse', 'agent/work^')).toBe(repository.head)
    expect(await onServer('rev-parse', 'agent/work^{tree}')).toBe(outputs.changes?.tree)
  })
})

describe('when', () => {
  test('nothing changed, nothing is pushed, and a note says so', async () => {
    for (const commits of ['squash', 'keep'] as const) {
      const { outputs, failure } = await run(taskOf({ commits }), { script: 'true' })
      expect(failure).toBeNull()
      expect(outputs.changes).toMatchObject({
        pushed: null,
        notes: ['nothing changed, so nothing was pushed'],
      })
    }
    expect(proxy.pushes).toBe(0)
  })

  test('the task failed, nothing is pushed, and its patch is there', async () => {
    const failed = new TaskFailure('task.exit_nonzero', 'it ended with 1')
    const { outputs, failure } = await run(taskOf({}), { failure: failed })
    expect(failure).toBe(failed)
    expect(outputs.changes).toMatchObject({
      pushed: null,
      notes: ['nothing was pushed, because the task did not succeed'],
      patch: { sizeBytes: expect.any(Number) },
    })
    expect(proxy.pushes).toBe(0)
  })

  test('the remote is empty, the branch starts there', async () => {
    names += 1
    repository = await createRepository({ root: fixture.root, name: `demo-${names}` })
    const accepted = accept(
      {
        url: `${proxy.url}/demo-${names}.git`,
        credentials: { username: AUTH.username, password: { secretRef: 'env:GIT' } },
      },
      { capture: { push: { branch: 'main', commits: 'keep' } }, password: PASSWORD, createdAt: CREATED },
    )
    const { outputs, failure } = await run(accepted, {
      script: 'echo 1 >f; git add f; git commit -qm root; echo 2 >g',
    })
    expect(failure).toBeNull()
    expect(outputs.changes?.pushed?.branch).toBe('main')
    expect(await onServer('log', '--format=%s', 'main')).toMatch(/^Changes of task t-\d+\nroot$/)
  })

  test('the same is pushed again, as after a worker’s death, it is there already', async () => {
    const accepted = taskOf({})
    const first = await run(accepted)
    const second = await run({ ...accepted, attempt: 2, fence: 2 })
    expect(second.failure).toBeNull()
    expect(second.outputs.changes?.pushed).toEqual(first.outputs.changes?.pushed)
    expect(proxy.pushes).toBe(1)
  })

  test('a later attempt has taken over, nothing is pushed', async () => {
    const stale = () => Promise.reject(new TaskFailure('worker.lease_lost', 'a later attempt has taken over'))
    const { outputs, failure } = await run(taskOf({}), { stillCurrent: stale })
    expect(failure?.code).toBe('worker.lease_lost')
    expect(outputs.changes?.pushed).toBeNull()
    expect(proxy.pushes).toBe(0)
  })

  test('a later attempt takes over between two tries, there is no other try', async () => {
    proxy.mishap = () => 'break-before'
    let asked = 0
    const stillCurrent = async () => {
      asked += 1
      if (asked > 1) throw new TaskFailure('worker.lease_lost', 'a later attempt has taken over')
    }
    const patient = fixture.room('overlay_volume', { limits: { retryMs: 20_000 } })
    const { failure } = await run(taskOf({}), { stillCurrent, room: patient })
    expect([failure?.code, proxy.pushes]).toEqual(['worker.lease_lost', 1])
  })

  test('the task is canceled in the middle of it', async () => {
    proxy.mishap = () => 'hold'
    const cancel = new AbortController()
    void proxy.arrived.then(() => cancel.abort(new TaskFailure('task.canceled', 'somebody wants it to end')))
    const { outputs, failure } = await run(taskOf({}), { signal: cancel.signal })
    expect(failure?.code).toBe('task.canceled')
    expect(outputs.changes?.pushed).toBeNull()
    expect(outputs.changes?.notes.join()).toContain('is not known')
    expect(await branches()).toBe(`refs/heads/main ${repository.head}`)
  })

  test('the lease is lost in the middle of it, there is no word', async () => {
    proxy.mishap = () => 'hold'
    const ended = new AbortController()
    const lost = new TaskFailure('worker.lease_lost', 'gone')
    void proxy.arrived.then(() => ended.abort(lost))
    await expect(run(taskOf({}), { signal: ended.signal })).rejects.toBe(lost)
  })

  test('a secret is in it, nothing leaves; in a commit that was taken back neither', async () => {
    const secret = 'token-0123456789abcdef'
    const plain = taskOf({ commits: 'keep' })
    const accepted = {
      ...plain,
      secrets: new Map([['TOKEN', { value: new Secret(secret), as: 'env' as const }]]),
    }
    const script = `echo ${secret} >s.txt; git add .; git commit -qm oops; git rm -q s.txt; git commit -qm gone; echo 1 >f`
    const { outputs, failure } = await run(accepted, { script })
    expect(failure?.toFailure('capture')).toMatchObject({ code: 'push.rejected', origin: 'platform' })
    expect(failure?.message).toContain('holds one of the task’s secrets')
    expect(outputs.changes?.pushed).toBeNull()
    expect(proxy.pushes).toBe(0)
    // The control: without the secret being one, it goes out.
    const control = await run(plain, { script })
    expect(control.outputs.changes?.pushed).not.toBeNull()
  })
})

describe('a branch that is there', () => {
  test('at the base goes on, main too', async () => {
    const { outputs, failure } = await run(taskOf({ branch: 'main' }))
    expect(failure).toBeNull()
    expect(await onServer('rev-parse', 'main')).toBe(outputs.changes?.pushed?.sha)
  })

  test('at an older commit goes on, where the history is known', async () => {
    const [older = ''] = repository.commits
    await onServer('branch', 'agent/work', older)
    const shallow = await run(taskOf({}))
    expect(shallow.failure).toMatchObject({ code: 'push.rejected', hint: expect.stringContaining('depth') })
    const { failure } = await run(taskOf({}, 0))
    expect(failure).toBeNull()
    expect(await onServer('merge-base', older, 'agent/work')).toBe(older)
  })

  test('somewhere else is left alone, though the server would take it', async () => {
    await repository.change(async builder => {
      await builder.checkout('HEAD~2')
      await builder.branch('agent/work')
      await builder.write({ 'theirs.txt': 'theirs\n' })
      await builder.commit('theirs')
    })
    await onServer('symbolic-ref', 'HEAD', 'refs/heads/main')
    const before = await branches()
    // The control: a git that is told to does it, because this server lets anybody.
    expect(await onServer('config', '--default', 'false', 'receive.denyNonFastForwards')).toBe('false')
    const { outputs, failure } = await run(taskOf({}, 0))
    expect(failure).toMatchObject({
      code: 'push.rejected',
      message: expect.stringContaining('non-fast-forward'),
    })
    expect(outputs.changes).toMatchObject({ pushed: null, patch: { sizeBytes: expect.any(Number) } })
    expect(await branches()).toBe(before)
    const forced = await run(taskOf({ force: true }))
    expect(forced.failure).toBeNull()
    const after = (await branches()).split('\n')
    expect(after).toContain(`refs/heads/agent/work ${forced.outputs.changes?.pushed?.sha}`)
    expect(after).toContain(`refs/heads/main ${before.split('main ')[1]}`)
    expect(after).toHaveLength(2)
  })
})

describe('a server that says no', () => {
  test('a hook: its words are told, without the credentials, on one line', async () => {
    await hook('pre-receive', `printf 'not on a \\033[31mFriday\\n%s\\n' '${PASSWORD}' >&2; exit 1`)
    const { failure, outputs } = await run(taskOf({}))
    expect(failure?.code).toBe('push.rejected')
    expect(failure?.message).toContain('pre-receive hook declined')
    expect(failure?.message).toMatch(/not on a \[31mFriday \*\*\*/)
    expect(outputs.changes?.pushed).toBeNull()
    expect(await branches()).toBe(`refs/heads/main ${repository.head}`)
  })

  test('a hook for one branch only', async () => {
    await hook('update', '[ "$1" != refs/heads/release ] || { echo protected >&2; exit 1; }')
    expect((await run(taskOf({ branch: 'release' }))).failure).toMatchObject({
      code: 'push.rejected',
      message: expect.stringMatching(/hook declined; it says "protected/),
    })
    expect((await run(taskOf({ branch: 'other' }))).failure).toBeNull()
  })

  test('a server that takes no rewritten branch, force or not', async () => {
    const tree = await onServer('rev-parse', 'main^{tree}')
    const theirs = await onServer('commit-tree', '-m', 'theirs', tree)
    await onServer('branch', 'agent/work', theirs)
    await onServer('config', 'receive.denyNonFastForwards', 'true')
    const { failure } = await run(taskOf({ force: true }))
    expect(failure).toMatchObject({
      code: 'push.rejected',
      message: expect.stringContaining('non-fast-forward'),
    })
    expect(await onServer('rev-parse', 'agent/work')).toBe(theirs)
  })

  test('a branch can’t be below another', async () => {
    await onServer('branch', 'agent', 'main')
    expect((await run(taskOf({}))).failure).toMatchObject({ code: 'push.rejected' })
  })

  test.each([
    ['status-401', 'workspace.auth_failed', false],
    ['status-403', 'workspace.auth_failed', false],
    ['status-413', 'push.rejected', false],
    ['status-500', 'push.unreachable', true],
    ['status-302', 'push.unreachable', true],
    ['garbage', 'push.unreachable', true],
    ['break-before', 'push.unreachable', true],
    ['break-within', 'push.unreachable', true],
  ] as const)('%s is %s', async (mishap, code, retryable) => {
    proxy.mishap = () => mishap
    const { failure, outputs } = await run(taskOf({}))
    expect(failure?.toFailure('report')).toMatchObject({ code, retryable, phase: 'capture' })
    expect(outputs.changes?.pushed).toBeNull()
    expect(await branches()).toBe(`refs/heads/main ${repository.head}`)
  })
})

describe('a connection that breaks', () => {
  let patient: Workspaces
  beforeAll(() => {
    patient = fixture.room('overlay_volume', { limits: { retryMs: 20_000, idleMs: 1000, firstByteMs: 1000 } })
  })

  test.each(['break-before', 'break-within', 'status-503', 'hold'] as const)(
    '%s, twice: it is tried again',
    async mishap => {
      proxy.mishap = push => (push <= 2 ? mishap : 'none')
      const { failure, outputs } = await run(taskOf({}), { room: patient })
      expect(failure).toBeNull()
      expect(await onServer('rev-parse', 'agent/work')).toBe(outputs.changes?.pushed?.sha)
      expect(proxy.pushes).toBe(3)
    },
  )

  test.each(['lose-answer', 'cut-answer'] as const)(
    '%s: the server has it, and is not asked to take it again',
    async mishap => {
      proxy.mishap = () => mishap
      const { failure, outputs } = await run(taskOf({}), { room: patient })
      expect(failure).toBeNull()
      expect(await onServer('rev-parse', 'agent/work')).toBe(outputs.changes?.pushed?.sha)
      expect(proxy.pushes).toBe(1)
    },
  )

  test('with its answer alone: the refs are asked, also when there is no time for another try', async () => {
    proxy.mishap = () => 'lose-answer'
    const { failure, outputs } = await run(taskOf({}))
    expect(failure).toBeNull()
    expect(await onServer('rev-parse', 'agent/work')).toBe(outputs.changes?.pushed?.sha)
  })

  test('for good: it says that the branch may have been set', async () => {
    proxy.mishap = () => 'lose-answer'
    proxy.isGone = true
    const { failure, outputs } = await run(taskOf({}))
    expect(failure).toMatchObject({
      code: 'push.unreachable',
      message: expect.stringContaining('may have been set'),
    })
    expect(outputs.changes?.pushed).toBeNull()
    expect(await onServer('rev-parse', 'agent/work^')).toBe(repository.head)
  })
})

describe('credentials', () => {
  test('go nowhere else, wherever the server leads', async () => {
    const asked: (string | undefined)[] = []
    const other = createServer((request, response) => {
      asked.push(request.headers.authorization)
      response.writeHead(401).end()
    })
    await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve))
    proxy.redirectTo = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
    const { failure } = await run(taskOf({}))
    other.close()
    expect(failure?.code).toBe('workspace.auth_failed')
    expect(asked).toEqual([undefined])
  })

  test('are in no file of the workspace', async () => {
    const look = async (plan: WorkspacePlan) => {
      const found = await fixture.inside(plan, repo =>
        shellIn(`${repo}/..`, `grep -rlaF '${PASSWORD}' '${plan.slot.root}' '${repo}' || true`),
      )
      expect(found).toBe('')
    }
    expect((await run(taskOf({}), { look })).failure).toBeNull()
  })

  test('are needed for what is private also at a push', async () => {
    const url = `${server.url}/demo-${names}.git`
    await expect(git(['push', url, 'main:x'], { cwd: repository.path })).rejects.toThrow('128')
  })
})
